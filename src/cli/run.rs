//! `orderwright run`: the daemon.

use std::sync::Arc;

use secrecy::ExposeSecret;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::{Output, block_on, complain, fail, instance, print};
use crate::admin::{Actions, Admin, Identity, Serving};
use crate::app::{App, Ended, Scene, exit};
use crate::config::{Loaded, Settings, Sources, catalogue};
use crate::telemetry::Telemetry;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  orderwright run --config /etc/orderwright/orderwright.toml
  ORDERWRIGHT__BROKER__URL_FILE=/run/secrets/amqp orderwright run

SIGTERM or SIGINT drains: nothing new is begun, what is on the wire is finished, all else stays with
the broker. A second signal ends the process at once; the broker redelivers.")]
pub(super) struct Arguments {
    /// What is printed to standard output: nothing but a summary at the end, or JSON lines with the
    /// events `ready` and `summary`. The log goes to standard error.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// What the admin listener says of this process.
fn identity(settings: &Settings, instance: &str) -> Identity {
    let values = catalogue::values(settings);
    let configuration = values.into_iter().collect::<serde_json::Map<_, _>>().into();
    Identity { instance: instance.to_owned(), version: env!("CARGO_PKG_VERSION"), configuration }
}

/// Opens the admin listener, if there is to be one. An error is an exit code, and told.
async fn listen(settings: &Settings, admin: &Arc<Admin>) -> Result<Option<Serving>, u8> {
    // Empty is no listener; anything else was checked with the settings.
    let Ok(address) = settings.admin.listen.parse() else { return Ok(None) };
    match crate::admin::serve(address, admin.clone()).await {
        Ok(serving) => {
            tracing::info!(address = %serving.address, "the admin listener is open");
            Ok(Some(serving))
        }
        Err(error) => {
            complain(&format!("admin.listen: {address} cannot be listened on: {error}"));
            Err(exit::CONFIG)
        }
    }
}

/// Opens the listener for admin actions, if there is to be one. As [`listen`].
async fn obey(
    settings: &Settings,
    admin: &Arc<Admin>,
    telemetry: &Telemetry,
) -> Result<Option<Serving>, u8> {
    let actions = &settings.admin.actions;
    // As above; and one without a token was refused.
    let (Ok(address), Some(token)) = (actions.listen.parse(), &actions.token) else {
        return Ok(None);
    };
    let log = telemetry.log.clone();
    let set_level = move |level: &str| log.set_level(level).map_err(|error| error.to_string());
    let actions = Actions::new(admin.clone(), token.expose_secret(), set_level);
    match crate::admin::obey(address, actions).await {
        Ok(serving) => {
            tracing::info!(address = %serving.address, "the listener for admin actions is open");
            Ok(Some(serving))
        }
        Err(error) => {
            complain(&format!("admin.actions.listen: {address} cannot be listened on: {error}"));
            Err(exit::CONFIG)
        }
    }
}

/// Sets up what the daemon says of itself, runs it, and sends out what is left to say.
pub(super) fn start(arguments: &Arguments, sources: &Sources) -> u8 {
    let loaded = match Settings::load(sources) {
        Ok(loaded) => loaded,
        Err(errors) => return fail(exit::CONFIG, &errors),
    };
    let name = instance(&loaded.settings);
    let telemetry = match Telemetry::start(&loaded.settings, &name) {
        Ok(telemetry) => telemetry,
        Err(error) => return fail(exit::CONFIG, &error),
    };
    let code = block_on(async {
        tokio::select! { biased;
            code = run(arguments, loaded, &name, &telemetry) => code,
            () = telemetry.log.run() => exit::BUG,
        }
    });
    telemetry.end();
    code
}

async fn run(arguments: &Arguments, loaded: Loaded, name: &str, telemetry: &Telemetry) -> u8 {
    let (mut terminate, mut interrupt) =
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            (Err(error), _) | (_, Err(error)) => return fail(exit::BUG, &error),
        };
    let mut asked = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let begun = Instant::now();
    let metrics = telemetry.metrics.clone();
    let scene = Scene::new(&metrics);
    let admin = Arc::new(Admin::new(identity(&loaded.settings, name), metrics.clone()));
    // Until the end: the drain is worth looking at as well.
    let _serving = match listen(&loaded.settings, &admin).await {
        Ok(serving) => serving,
        Err(code) => return code,
    };
    let _obeying = match obey(&loaded.settings, &admin, telemetry).await {
        Ok(obeying) => obeying,
        Err(code) => return code,
    };
    let built = tokio::select! { biased;
        // Nothing has been consumed: there is nothing to drain.
        () = asked() => return exit::OK,
        built = App::build(loaded.settings, name, (admin, metrics, scene)) => built,
    };
    let app = match built {
        Ok(app) => app,
        Err(error) => return fail(error.exit(), &error),
    };
    let json = arguments.output == Output::Json;
    let ready = || {
        tracing::info!(instance = name, version = env!("CARGO_PKG_VERSION"), "consuming");
        if json {
            print("{\"event\":\"ready\"}\n");
        }
    };
    let (shut, shutdown) = tokio::sync::oneshot::channel::<()>();
    let app = app.run(ready, async {
        // A sender that is gone means shutdown as well.
        let _either = shutdown.await;
    });
    tokio::pin!(app);
    let mut shut = Some(shut);
    let (ended, snapshot) = loop {
        tokio::select! { biased;
            done = &mut app => break done,
            () = asked() => {
                if shut.take().is_none() {
                    telemetry.log.end();
                    // No destructor may run: on an open channel the library's would cancel the consumer,
                    // and the next one would start in the middle. A dropped socket keeps the order.
                    std::process::exit(exit::GRACE.into());
                }
            }
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    if json {
        let mut summary = json!(snapshot);
        if let Some(fields) = summary.as_object_mut() {
            fields.insert("event".to_owned(), json!("summary"));
            fields.insert("duration_seconds".to_owned(), json!(seconds));
        }
        print(&format!("{summary}\n"));
    } else {
        let letters: u64 = snapshot.dead_lettered.values().sum();
        print(&format!(
            "{} applied, {} already applied, {} superseded, {letters} dead-lettered, {} given back to \
             the broker\n",
            snapshot.applied, snapshot.already_applied, snapshot.superseded, snapshot.released
        ));
    }
    match ended {
        Ended::Drained => {}
        Ended::Failed => tracing::error!("a bug: the consumer ended by itself"),
        Ended::Abandoned(orders) => {
            tracing::warn!(orders, "the grace period ran out; the broker redelivers");
        }
    }
    ended.exit()
}
