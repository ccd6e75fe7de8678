//! Stands in for Dynamics 365 Finance & Operations on a TCP port, for tests and for the demo.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use orderwright::simulator::latency::Latency;
use orderwright::simulator::scenario::Scenario;
use orderwright::simulator::throttle::Limits;
use orderwright::simulator::{self, Profile, Settings, rates, tokens};
use serde_json::{Map, Value as Json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Small allocations on several threads are what this program does all day.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXIT_USAGE: u8 = 64;
const EXIT_UNAVAILABLE: u8 = 69;
/// How long the one that is asked for its health may take. Less than a health check waits as a rule.
const HEALTH_MAX: Duration = Duration::from_secs(3);

const EXAMPLES: &str = "\
Examples:
  Ten thousand orders, answered as fast as a real system answers:
    orderwright-sim --orders 10000 --get-latency 80ms..600ms --patch-latency 250ms..2500ms

  A bad day, the same each time it is run:
    orderwright-sim --orders 100 --seed 7 --conflict-rate 0.1 --error-rate 0.02 --reset-rate 0.01

  One order:
    curl -i \"http://127.0.0.1:8090/data/SalesOrderHeadersV2\\
(dataAreaId='USMF',SalesOrderNumber='SO-000001')?cross-company=true\"

  What was asked and changed, as soon as 100 updates are applied:
    curl \"http://127.0.0.1:8090/sim/ledger?applied_distinct_min=100&wait_ms=60000\"

  Lose the reply to the next write:
    curl -X PUT http://127.0.0.1:8090/sim/faults \\
      -d '{\"f1_lost_reply\":{\"next\":1}}'

  Two minutes of maintenance, then 50 requests a second and no more:
    curl -X PUT http://127.0.0.1:8090/sim/faults \\
      -d '{\"f18_maintenance\":{\"lasts\":\"2m\"},\"throttle\":{\"per_second\":50}}'

  A token endpoint at /tenant/oauth2/v2.0/token, without which nobody is let in:
    orderwright-sim --orders 10 --client-id client --client-secret s3cret

  A day that was written down, in a quarter of an hour:
    orderwright-sim --orders 1000 --scenario day.toml --speed 96

docs/SIMULATOR.md lists the profiles, the faults, and all that can be asked of /sim/.";

/// A stand-in for Dynamics 365 Finance & Operations: orders over OData, with faults and a ledger.
///
/// Prints one line of JSON on stdout when it listens, and logs on stderr (RUST_LOG sets how much).
#[derive(Debug, Parser)]
#[command(name = "orderwright-sim", version, after_help = EXAMPLES)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one. Whoever can reach it may change everything.
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// A second address, for /sim/ alone: it is there while a fault keeps the other one closed.
    #[arg(long, value_name = "ADDRESS")]
    listen_admin: Option<SocketAddr>,
    /// Which product to imitate: fo, strict, dataverse or bc.
    #[arg(long, default_value = "fo")]
    profile: Profile,
    /// Orders that exist at the start: SO-000001 and so on, in company USMF.
    #[arg(long, default_value_t = 0, value_name = "N")]
    orders: usize,
    /// Makes a run repeatable: the same requests on an order meet the same fate.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Company of the user; orders of any other need cross-company=true.
    #[arg(long, default_value = "DAT", value_name = "COMPANY")]
    default_company: String,
    /// Name of the Int64 property that tells the updates of one order apart.
    #[arg(long, default_value = "UpdateSequence", value_name = "PROPERTY")]
    sequence_property: String,
    /// The only token that is let in. Without it anyone is.
    #[arg(long, value_name = "TOKEN")]
    bearer_token: Option<String>,
    /// An application that may ask for a token at POST /{tenant}/oauth2/v2.0/token (or oauth2/token).
    /// With it, nobody is let in without one.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// The tenant in the path of the token endpoint.
    #[arg(long, default_value = "tenant", requires = "client_id", value_name = "TENANT")]
    tenant: String,
    /// The application's secret.
    #[arg(long, requires = "client_id", value_name = "SECRET")]
    client_secret: Option<String>,
    /// The federated assertion (a workload's token) that is accepted, byte for byte.
    #[arg(long, requires = "client_id", value_name = "JWT")]
    client_assertion: Option<String>,
    /// What a token must be asked for; http:// and the address that is listened on if absent.
    #[arg(long, requires = "client_id", value_name = "URL")]
    audience: Option<String>,
    /// How long a token lives.
    #[arg(long, default_value = "3599s", requires = "client_id", value_name = "DURATION")]
    token_lifetime: humantime::Duration,
    /// How long a GET takes: a duration, or median..99th percentile.
    #[arg(long, default_value = "0s", value_name = "DURATION[..DURATION]")]
    get_latency: Latency,
    /// How long a PATCH takes: a duration, or median..99th percentile.
    #[arg(long, default_value = "0s", value_name = "DURATION[..DURATION]")]
    patch_latency: Latency,
    /// Share of PATCHes just before which somebody else changes the order (0 to 1).
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    conflict_rate: f64,
    /// Share of conflicts that are answered 409 instead of 412.
    #[arg(long = "conflict-as-409", default_value_t = 0.0, value_name = "SHARE")]
    conflict_as_409: f64,
    /// Share of conflicts that are answered 400 with the update-conflict text instead of 412.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    conflict_as_text: f64,
    /// Share of requests that are answered 503 and not carried out.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    error_rate: f64,
    /// Share of requests whose connection is reset; half of the PATCHes among them are applied.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    reset_rate: f64,
    /// Let writes pass without a CSRF token, whatever the profile.
    #[arg(long)]
    no_csrf: bool,
    /// What goes wrong when: a TOML file, see docs/SIMULATOR.md.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// How many times as fast the scenario runs, on top of its own speed.
    #[arg(long, default_value_t = 1.0, requires = "scenario", value_name = "N")]
    speed: f64,
    /// Requests a second that are let in; further ones are answered 429.
    #[arg(long, value_name = "N")]
    requests_per_second: Option<f64>,
    /// Applied changes that the ledger keeps.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    changes_max: usize,
    /// Most connections at a time.
    #[arg(long, default_value_t = 4_096, value_name = "N")]
    connections_max: usize,
    /// Ask the one that listens at this address (or at --listen-admin) on this machine whether it is there, and end: 0 yes,
    /// 69 no. For the health checks of containers.
    #[arg(long)]
    healthcheck: bool,
    /// End when stdin closes, so that nothing outlives a parent that died.
    #[arg(long)]
    exit_with_stdin: bool,
}

impl Arguments {
    fn settings(&self) -> Settings {
        Settings {
            profile: self.profile,
            orders: self.orders,
            seed: self.seed,
            default_company: self.default_company.clone(),
            sequence_property: self.sequence_property.clone(),
            bearer_token: self.bearer_token.clone(),
            tokens: self.client_id.clone().map(|client_id| tokens::Settings {
                tenant: self.tenant.clone(),
                client_id,
                client_secret: self.client_secret.clone(),
                client_assertion: self.client_assertion.clone(),
                audience: self.audience.clone(),
                lifetime: self.token_lifetime.into(),
            }),
            throttle: self
                .requests_per_second
                .map(|rate| Limits { per_second: Some(rate), ..Limits::NONE }),
            csrf: self.no_csrf.then_some(false),
            get_latency: self.get_latency,
            patch_latency: self.patch_latency,
            faults: rates::Rates {
                conflict_rate: self.conflict_rate,
                conflict_as_409: self.conflict_as_409,
                conflict_as_text: self.conflict_as_text,
                error_rate: self.error_rate,
                reset_rate: self.reset_rate,
            },
            changes_max: self.changes_max,
            connections_max: self.connections_max,
            ..Settings::default()
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(said) => return say(&said),
    };
    if arguments.healthcheck {
        return match health(arguments.listen_admin.unwrap_or(arguments.listen)).await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) | Err(_) => ExitCode::from(EXIT_UNAVAILABLE),
        };
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(std::io::stderr().is_terminal()).init();
    let mut settings = arguments.settings();
    if let Some(path) = &arguments.scenario {
        match scenario(path, arguments.speed) {
            Ok(scenario) => settings.scenario = scenario,
            Err(error) => {
                tracing::error!(scenario = %path.display(), %error, "the scenario is of no use");
                return ExitCode::from(EXIT_USAGE);
            }
        }
    }
    if let Err(error) = settings.check() {
        tracing::error!(%error, "the arguments make no sense");
        return ExitCode::from(EXIT_USAGE);
    }
    let stop = CancellationToken::new();
    if arguments.exit_with_stdin {
        stop_with_stdin(stop.clone());
    }
    match run(&arguments, settings, stop).await {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(listen = %arguments.listen, %error, "cannot start");
            ExitCode::from(EXIT_UNAVAILABLE)
        }
    }
}

/// Whether a simulator that listens there says that it is there.
async fn health(listen: SocketAddr) -> std::io::Result<bool> {
    let here = if listen.ip().is_unspecified() {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listen.port())
    } else {
        listen
    };
    let ask = async {
        let mut stream = TcpStream::connect(here).await?;
        stream
            .write_all(b"GET /sim/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await?;
        let mut status = [0; "HTTP/1.1 200".len()];
        stream.read_exact(&mut status).await?;
        Ok(status == *b"HTTP/1.1 200")
    };
    tokio::time::timeout(HEALTH_MAX, ask).await?
}

fn scenario(path: &Path, speed: f64) -> Result<Scenario, Box<dyn std::error::Error>> {
    let mut scenario = Scenario::parse(&std::fs::read_to_string(path)?)?;
    scenario.hasten(speed)?;
    Ok(scenario)
}

/// Help and version go to stdout and are no mistake; clap's own exit code for one is not ours.
fn say(said: &clap::Error) -> ExitCode {
    if said.print().is_ok() && !said.use_stderr() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_USAGE)
    }
}

/// Listens, says so, and serves until a signal or `stop`.
async fn run(
    arguments: &Arguments,
    mut settings: Settings,
    stop: CancellationToken,
) -> std::io::Result<ExitCode> {
    // Before the port is announced: whoever reads the line may send a signal at once.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(arguments.listen).await?;
    let address = listener.local_addr()?;
    let admin = match arguments.listen_admin {
        Some(address) => Some(TcpListener::bind(address).await?),
        None => None,
    };
    if let Some(tokens) = &mut settings.tokens {
        tokens.audience.get_or_insert_with(|| format!("http://{address}"));
    }
    let mut said = Map::from_iter([url("listening", address)]);
    if let Some(admin) = &admin {
        said.extend([url("admin", admin.local_addr()?)]);
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", Json::Object(said))?;
    stdout.flush()?;
    tracing::info!(%address, orders = settings.orders, seed = settings.seed, "serving");
    tokio::select! {
        served = simulator::serve(listener, admin, settings, stop) => {
            if let Err(error) = served {
                tracing::error!(%error, "the arguments make no sense");
                return Ok(ExitCode::from(EXIT_USAGE));
            }
            tracing::info!("stdin closed");
        }
        _ = terminate.recv() => tracing::info!("SIGTERM"),
        _ = interrupt.recv() => tracing::info!("SIGINT"),
    }
    Ok(ExitCode::SUCCESS)
}

fn url(name: &str, address: SocketAddr) -> (String, Json) {
    (name.to_owned(), format!("http://{address}").into())
}

/// A plain thread, since a blocked read of stdin would keep the runtime from ending.
fn stop_with_stdin(stop: CancellationToken) {
    std::thread::spawn(move || {
        let mut sink = [0; 1024];
        while std::io::stdin().read(&mut sink).is_ok_and(|bytes| bytes > 0) {}
        stop.cancel();
    });
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn without_flags_the_settings_are_the_defaults() {
        Arguments::command().debug_assert();
        let arguments = Arguments::try_parse_from(["orderwright-sim"]).unwrap();
        assert_eq!(arguments.settings(), Settings::default());
        assert!(arguments.listen.ip().is_loopback());
    }

    #[test]
    fn flags_reach_the_settings() {
        let flags = "orderwright-sim --orders 9 --seed 7 --bearer-token t --changes-max 5 \
                     --get-latency 80ms..600ms --patch-latency 1s --conflict-rate 0.1 \
                     --conflict-as-409 0.2 --conflict-as-text 0.3 --error-rate 0.4 \
                     --reset-rate 0.5";
        let settings = Arguments::try_parse_from(flags.split_whitespace()).unwrap().settings();
        let faults = rates::Rates {
            conflict_rate: 0.1,
            conflict_as_409: 0.2,
            conflict_as_text: 0.3,
            error_rate: 0.4,
            reset_rate: 0.5,
        };
        let expected = Settings {
            orders: 9,
            seed: 7,
            bearer_token: Some("t".to_owned()),
            faults,
            get_latency: "80ms..600ms".parse().unwrap(),
            patch_latency: "1s".parse().unwrap(),
            changes_max: 5,
            ..Settings::default()
        };
        assert_eq!(settings, expected);
    }
}
