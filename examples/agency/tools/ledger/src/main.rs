//! ledger: asks the nodes of an Indy ledger for its status, from the command line. The
//! library's C interface lives in `indy`.

mod indy;

use std::process::ExitCode;
use std::time::Duration;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// For each of the two questions; the library gives up on its nodes before.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--version"] => {
            println!("ledger {VERSION}");
            println!("libindy_vdr {}", indy::version());
            ExitCode::SUCCESS
        }
        ["status", genesis] => match status(genesis) {
            Ok(status) => {
                println!("{status}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("ledger: {error}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("ledger: usage: ledger --version | ledger status GENESIS");
            ExitCode::from(2)
        }
    }
}

/// The ledger's status, as JSON, after its nodes were asked for the latest.
fn status(genesis: &str) -> Result<String, indy::Error> {
    let pool = indy::Pool::open(genesis)?;
    pool.refresh(PATIENCE)?;
    pool.status(PATIENCE)
}
