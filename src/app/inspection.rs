//! Whether the broker's objects let us start: what AMQP shows, and what its management API adds.

use std::collections::BTreeSet;

use tokio::time::timeout;

use super::Error;
use crate::broker::doctor::{self, Diagnosis, Expected, Severity, Unseen};
use crate::broker::{self, Finding, Generations, Management, Publisher, Report, Topology};
use crate::config::Settings;

/// What was found.
#[derive(Debug)]
pub struct Inspection {
    /// Object by object, over AMQP.
    pub objects: Vec<Diagnosis>,
    /// By the management API; that it was not asked, otherwise.
    pub management: Vec<Diagnosis>,
}

impl Inspection {
    /// Everything.
    pub fn all(&self) -> impl Iterator<Item = &Diagnosis> {
        self.objects.iter().chain(&self.management)
    }

    /// Whether anything stands in the way of a start.
    pub fn is_refused(&self) -> bool {
        self.all().any(|it| it.severity == Severity::Refuse)
    }
}

/// Asks the management API, if the settings name one, and judges both.
///
/// # Errors
/// [`broker::Error::Url`] or `Management`: the settings are wrong. An API that does not answer is a finding.
pub async fn inspect(
    report: &Report,
    topology: &Topology,
    generations: Option<&Generations>,
    settings: &Settings,
) -> Result<Inspection, broker::Error> {
    let Some(management) = Management::new(&settings.broker)? else {
        let management = vec![not_asked("not_configured", "broker.management_url is not set")];
        return Ok(Inspection { objects: of_report(report, false), management });
    };
    let live = generations.map_or(topology.generation(), |known| known.live);
    let topology = &topology.of(live);
    let expected = Expected {
        topology,
        resharding: generations.is_some_and(|known| !known.may_open()),
        declare: settings.topology.declare,
        balance: settings.balance.enabled,
        consumer_timeout: settings.broker.consumer_timeout,
        user: management.amqp_user(),
    };
    // Half, so that a start which waits for both stays within twice its limit.
    let limit = settings.broker.start_timeout / 2;
    let observed = timeout(limit, management.observe(topology)).await;
    let observed = observed.unwrap_or_else(|_elapsed| {
        Err(Unseen::Silent(format!("not within {} s", limit.as_secs())))
    });
    Ok(match observed {
        Err(why) => Inspection {
            objects: of_report(report, false),
            management: vec![not_asked("unreachable", &why.to_string())],
        },
        Ok(observed) => {
            let compared = observed.queues.is_ok() && observed.exchanges.is_ok();
            let mut management = doctor::diagnose(&expected, &observed);
            drop_what_amqp_says(&mut management, report);
            Inspection { objects: of_report(report, compared), management }
        }
    })
}

/// What is missing is not in the API's list either: once is enough.
fn drop_what_amqp_says(management: &mut Vec<Diagnosis>, report: &Report) {
    let missing = |(_, name, finding): &(&'static str, String, Finding)| {
        (*finding == Finding::Missing).then_some(name.clone())
    };
    let missing: BTreeSet<String> = report.findings.iter().filter_map(missing).collect();
    for finding in management.iter_mut().filter(|it| it.state == "unlisted") {
        finding.names.retain(|name| !missing.contains(name));
    }
    management.retain(|finding| !finding.names.is_empty());
}

fn not_asked(state: &'static str, why: &str) -> Diagnosis {
    Diagnosis {
        severity: Severity::Warn,
        state,
        object: "management API",
        names: vec!["all".to_owned()],
        what: format!(
            "not asked, {why}. Arguments were compared over AMQP alone; policies, bindings, consumers, \
             permissions and the version were not looked at"
        ),
        fix: "set broker.management_url, such as http://rabbit:15672".to_owned(),
    }
}

/// What AMQP says, object by object. `compared`: the management API shows the shapes as well.
#[must_use]
pub fn of_report(report: &Report, compared: bool) -> Vec<Diagnosis> {
    let one = |(object, name, finding): &(&'static str, String, Finding)| {
        // The management API shows it as well, and knows the version.
        let known = compared && matches!(finding, Finding::Unverified(_) | Finding::ManyActive);
        let finding = if known { &Finding::Fine } else { finding };
        let (severity, state) = match finding {
            Finding::Fine => (Severity::Fine, "fine"),
            Finding::Unverified(_) => (Severity::Warn, "unverified"),
            Finding::Missing => (Severity::Refuse, "missing"),
            Finding::Drifted(_) => (Severity::Refuse, "drifted"),
            Finding::Denied(_) => (Severity::Refuse, "denied"),
            Finding::NoPlugin(_) => (Severity::Refuse, "no_plugin"),
            Finding::ManyActive => (Severity::Refuse, doctor::NOT_SINGLE_ACTIVE),
        };
        let (what, fix) = explain(object, finding);
        Diagnosis { severity, state, object, names: vec![name.clone()], what, fix }
    };
    report.findings.iter().map(one).collect()
}

/// What was found of one object, and what to do about it.
fn explain(object: &str, finding: &Finding) -> (String, String) {
    let (what, fix) = match finding {
        Finding::Fine => ("as it should be".to_owned(), ""),
        Finding::Missing => ("missing".to_owned(), "run `orderwright topology declare`"),
        Finding::Drifted(text) => {
            let fix = format!(
                "its shape cannot be changed in place: set the configuration to what exists, choose \
                 another topology.prefix, or drain and delete the {object}, and run `orderwright \
                 topology declare`"
            );
            return (format!("has another shape ({text})"), fix);
        }
        Finding::Unverified(text) => (
            format!("exists, but its shape could not be compared ({text})"),
            "set broker.management_url, which shows it without the permission to configure",
        ),
        Finding::Denied(text) => {
            (format!("is not ours to look at or to declare ({text})"), "ask for the permission")
        }
        Finding::NoPlugin(text) => (
            format!("needs the plugin rabbitmq_consistent_hash_exchange ({text})"),
            "run `rabbitmq-plugins enable rabbitmq_consistent_hash_exchange`, or set \
             topology.shards = 1",
        ),
        Finding::ManyActive => (doctor::MANY.to_owned(), doctor::MANY_FIX),
    };
    (what, fix.to_owned())
}

/// Declares or checks the objects, and looks at the rest.
///
/// # Errors
/// [`Error::Slow`], or the broker's.
pub(super) async fn look(
    connection: &lapin::Connection,
    publisher: &Publisher,
    topology: &Topology,
    (settings, declare): (&Settings, bool),
) -> Result<(Inspection, Option<Generations>), Error> {
    let looking = async {
        if declare {
            return broker::declare(connection, publisher, topology).await;
        }
        let (report, known) = broker::inspect(connection, topology).await?;
        if report.faults().next().is_some() {
            return Ok((report, known));
        }
        let generations = broker::generations(connection, publisher, topology).await?;
        Ok((report, Some(generations)))
    };
    // An answer that the loss of the connection overtook would be waited for without end.
    let (report, generations) =
        timeout(settings.broker.start_timeout, looking).await.map_err(|_elapsed| Error::Slow)??;
    let inspection = inspect(&report, topology, generations.as_ref(), settings).await?;
    Ok((inspection, generations))
}

/// Makes ready to start. Warnings are logged.
///
/// # Errors
/// [`Error::Topology`] with all that stands in the way of a start, or as [`look`].
pub(super) async fn prepare(
    connection: &lapin::Connection,
    publisher: &Publisher,
    topology: &Topology,
    settings: &Settings,
) -> Result<Generations, Error> {
    let how = (settings, settings.topology.declare);
    let (inspection, generations) = look(connection, publisher, topology, how).await?;
    let of = |severity| inspection.all().filter(move |it| it.severity == severity);
    for finding in of(Severity::Warn).filter(|it| is_worth_a_line(it)) {
        tracing::warn!(
            object = finding.subject(),
            state = finding.state,
            fix = finding.fix,
            "{}",
            finding.what
        );
    }
    let faults: Vec<_> = of(Severity::Refuse).map(|finding| format!("  {finding}")).collect();
    match generations {
        Some(generations) if faults.is_empty() => {
            tell_generation(settings, &generations);
            check_memory(settings, &generations)?;
            Ok(generations)
        }
        Some(_) | None => Err(Error::Topology(faults.join("\n"))),
    }
}

/// The settings' number of shards is that of the first start.
fn tell_generation(settings: &Settings, Generations { live, .. }: &Generations) {
    let configured = settings.topology.shards;
    if live.shards != configured {
        tracing::warn!(
            generation = live.number,
            shards = live.shards,
            configured,
            "topology.shards counts at the first start only: `orderwright topology reshard` changes it"
        );
    }
}

/// The settings were checked for their own number of shards, and it is the broker's that are consumed
/// from.
fn check_memory(settings: &Settings, generations: &Generations) -> Result<(), Error> {
    let left = generations.left.map_or(0, |left| left.shards);
    let (shards, most) =
        (u32::from(generations.live.shards) + u32::from(left), settings.shards_max());
    if shards > u32::from(most) { Err(Error::Memory { shards, most }) } else { Ok(()) }
}

/// What was chosen for good need not be told at every start: no management API, or one whose user is
/// no administrator and so may not see permissions. `topology check` tells it.
fn is_worth_a_line(finding: &Diagnosis) -> bool {
    match finding.state {
        "not_configured" | "unverified" => false,
        "not_looked_at" => finding.object != "permission",
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Generation;

    #[test]
    fn memory_is_that_of_the_shards_there_are_in_both_generations_and_not_of_the_settings() {
        let mut settings = Settings::default();
        // Four megabytes a shard: 1,024 shards.
        settings.order.body_bytes_max = 128 * 1024;
        assert_eq!(settings.shards_max(), 1024);
        let mut generations = Generations::begun(Generation { number: 2, shards: 1000 });
        assert!(check_memory(&settings, &generations).is_ok());
        generations.left = Some(Generation { number: 1, shards: 24 });
        assert!(check_memory(&settings, &generations).is_ok());
        generations.left = Some(Generation { number: 1, shards: 25 });
        let refused = check_memory(&settings, &generations).unwrap_err();
        assert!(matches!(refused, Error::Memory { shards: 1025, most: 1024 }), "{refused}");
        assert_eq!(refused.exit(), 78);
    }
}
