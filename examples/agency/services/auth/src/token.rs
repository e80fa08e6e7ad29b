//! Tokens in SQLite. Only the SHA-256 of a token is stored, so a copy of the
//! database lets nobody in.

use std::fmt;

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

const TOKEN_BYTES: usize = 32;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS tokens (
    digest     TEXT PRIMARY KEY,
    subject    TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// A token as its owner sees it, this once.
#[derive(Serialize)]
pub struct Issued {
    pub token: String,
    pub subject: String,
    pub expires_at: u64,
}

/// What is known of a valid token.
#[derive(Serialize)]
pub struct Token {
    pub subject: String,
    pub expires_at: u64,
}

#[derive(Debug)]
pub enum TokenError {
    Random(openssl::error::ErrorStack),
    Database(rusqlite::Error),
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::Random(error) => write!(f, "cannot draw random bytes: {error}"),
            TokenError::Database(error) => write!(f, "token database: {error}"),
        }
    }
}

impl std::error::Error for TokenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TokenError::Random(error) => Some(error),
            TokenError::Database(error) => Some(error),
        }
    }
}

impl From<openssl::error::ErrorStack> for TokenError {
    fn from(error: openssl::error::ErrorStack) -> Self {
        TokenError::Random(error)
    }
}

impl From<rusqlite::Error> for TokenError {
    fn from(error: rusqlite::Error) -> Self {
        TokenError::Database(error)
    }
}

/// The table of issued tokens.
pub struct Tokens {
    database: Connection,
}

impl Tokens {
    /// Opens or creates the database at `path`; `:memory:` keeps nothing.
    pub fn open(path: &str) -> Result<Self, TokenError> {
        let database = Connection::open(path)?;
        database.execute_batch(SCHEMA)?;
        Ok(Tokens { database })
    }

    pub fn count(&self) -> Result<u64, TokenError> {
        let count = self.database.query_row("SELECT count(*) FROM tokens", [], |row| row.get(0))?;
        Ok(count)
    }

    /// Issues a token and forgets those that expired before `now`.
    pub fn issue(&self, subject: &str, lifetime_secs: u32, now: u64) -> Result<Issued, TokenError> {
        let mut secret = [0; TOKEN_BYTES];
        openssl::rand::rand_bytes(&mut secret)?;
        let issued = Issued {
            token: hex(&secret),
            subject: subject.to_owned(),
            expires_at: now + u64::from(lifetime_secs),
        };
        self.database.execute("DELETE FROM tokens WHERE expires_at <= ?1", params![now])?;
        self.database.execute(
            "INSERT INTO tokens (digest, subject, expires_at) VALUES (?1, ?2, ?3)",
            params![digest(&issued.token), issued.subject, issued.expires_at],
        )?;
        Ok(issued)
    }

    /// The token's entry, unless it is unknown or expired at `now`.
    pub fn verify(&self, token: &str, now: u64) -> Result<Option<Token>, TokenError> {
        let found = self
            .database
            .query_row(
                "SELECT subject, expires_at FROM tokens WHERE digest = ?1 AND expires_at > ?2",
                params![digest(token), now],
                |row| Ok(Token { subject: row.get(0)?, expires_at: row.get(1)? }),
            )
            .optional()?;
        Ok(found)
    }
}

fn digest(token: &str) -> String {
    hex(&openssl::sha::sha256(token.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{TokenError, Tokens};

    #[test]
    fn tokens_expire() -> Result<(), TokenError> {
        let tokens = Tokens::open(":memory:")?;
        let issued = tokens.issue("alice", 60, 1_000)?;
        assert!(tokens.verify(&issued.token, 1_059)?.is_some());
        assert!(tokens.verify(&issued.token, 1_060)?.is_none());
        assert!(tokens.verify("made up", 1_000)?.is_none());
        tokens.issue("bob", 60, 2_000)?;
        assert_eq!(tokens.count()?, 1);
        Ok(())
    }
}
