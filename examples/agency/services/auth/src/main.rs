//! The auth service: routes, start-up and shutdown. Tokens live in `token`,
//! log lines in `log`.

mod log;
mod token;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use token::{Issued, Token, TokenError, Tokens};

const VERSION: &str = env!("CARGO_PKG_VERSION");

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Shared = Arc<Mutex<Tokens>>;
type Reply<T> = Result<(StatusCode, Json<T>), (StatusCode, Json<Problem>)>;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("--version") => {
            println!("auth {VERSION}");
            println!("{}", openssl::version::version());
            println!("SQLite {}", rusqlite::version());
            ExitCode::SUCCESS
        }
        Some(other) => {
            eprintln!("auth: unknown argument {other:?}; usage: auth [--version]");
            ExitCode::from(2)
        }
        None => match serve() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                log::error("service failed", json!({ "error": error.to_string() }));
                ExitCode::FAILURE
            }
        },
    }
}

fn serve() -> Result<(), Failure> {
    let address = listen_address()?;
    let database = setting("AUTH_DATABASE", ":memory:");
    let tokens: Shared = Arc::new(Mutex::new(Tokens::open(&database)?));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async move {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let listener = tokio::net::TcpListener::bind(address).await?;
        log::info(
            "listening",
            json!({ "address": listener.local_addr()?.to_string(), "version": VERSION }),
        );
        axum::serve(listener, routes(tokens))
            .with_graceful_shutdown(async move {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                log::info("shutting down", json!({ "signal": name }));
            })
            .await?;
        log::info("stopped", json!({}));
        Ok(())
    })
}

fn routes(tokens: Shared) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/tokens", post(issue))
        .route("/tokens/{token}", get(verify))
        .with_state(tokens)
}

/// Where to listen: `AGENCY_ADDRESS` (an IP address) and `PORT`.
fn listen_address() -> Result<SocketAddr, Failure> {
    let host = setting("AGENCY_ADDRESS", "0.0.0.0");
    let port = setting("PORT", "8080");
    let host =
        host.parse().map_err(|_| format!("AGENCY_ADDRESS is not an IP address: {host:?}"))?;
    let port = port.parse().map_err(|_| format!("PORT is not a port number: {port:?}"))?;
    Ok(SocketAddr::new(host, port))
}

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    service: &'static str,
    version: &'static str,
    tokens: u64,
}

#[derive(Deserialize)]
struct IssueRequest {
    subject: String,
    #[serde(default = "default_lifetime_secs")]
    lifetime_secs: u32,
}

#[derive(Serialize)]
struct Problem {
    error: String,
}

fn default_lifetime_secs() -> u32 {
    3600
}

async fn health(State(tokens): State<Shared>) -> Reply<Health> {
    let tokens = lock(&tokens).count().map_err(internal)?;
    let health = Health { status: "ok", service: "auth", version: VERSION, tokens };
    Ok((StatusCode::OK, Json(health)))
}

async fn issue(State(tokens): State<Shared>, Json(request): Json<IssueRequest>) -> Reply<Issued> {
    if request.subject.is_empty() {
        return Err(problem(StatusCode::BAD_REQUEST, "subject is empty"));
    }
    let issued = lock(&tokens)
        .issue(&request.subject, request.lifetime_secs, log::unix_secs())
        .map_err(internal)?;
    log::info("token issued", json!({ "subject": request.subject }));
    Ok((StatusCode::CREATED, Json(issued)))
}

async fn verify(State(tokens): State<Shared>, Path(token): Path<String>) -> Reply<Token> {
    let found = lock(&tokens).verify(&token, log::unix_secs()).map_err(internal)?;
    match found {
        Some(token) => Ok((StatusCode::OK, Json(token))),
        None => Err(problem(StatusCode::NOT_FOUND, "no such token")),
    }
}

/// A request that panicked leaves SQLite consistent, so its lock stays usable.
fn lock(tokens: &Shared) -> MutexGuard<'_, Tokens> {
    tokens.lock().unwrap_or_else(PoisonError::into_inner)
}

fn problem(status: StatusCode, error: &str) -> (StatusCode, Json<Problem>) {
    let error = error.to_owned();
    (status, Json(Problem { error }))
}

fn internal(error: TokenError) -> (StatusCode, Json<Problem>) {
    log::error("request failed", json!({ "error": error.to_string() }));
    problem(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
}
