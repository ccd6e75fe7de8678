//! Dead letters that are changed by hand.

use serde_json::{Value, json};

use crate::commands::{Ran, run};
use crate::stage::{Stage, update};

async fn dlq(stage: &Stage, editor: &str, words: &[&str]) -> Ran {
    let mut settings = stage.settings(&[]).await;
    for (name, value) in [("ORDERWRIGHT_OPERATOR", "kim@desk"), ("VISUAL", editor), ("EDITOR", "")]
    {
        settings.push((name.to_owned(), value.to_owned()));
    }
    run(&settings, &[&["dlq"], words].concat()).await
}

fn parsed(ran: &Ran) -> Value {
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// The service refuses one update; the id of its letter.
async fn refused(name: &str) -> (Stage, crate::daemon::Daemon, String) {
    let stage = Stage::new(name, &["--orders", "5"]).await;
    let refused = json!({"on": "patch", "do": "status", "status": 400});
    stage.simulator.faults(&json!({"next": [refused]})).await.unwrap();
    let daemon = stage.daemon(&[]).await;
    stage.publish(&[update(1, 1)]).await;
    daemon.logs("\"dead-lettered\"").await;
    let letters = parsed(&dlq(&stage, "", &["ls", "--output", "json"]).await);
    let id = letters[0]["id"].as_str().unwrap().to_owned();
    (stage, daemon, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn edited_letter_replaces_the_old_one_wherever_the_edit_is_cut_short_and_is_replayed() {
    let (stage, daemon, id) = refused("edit").await;
    let depth = async || stage.channel().await.depth("dead-letters").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("old.ndjson");
    let file = file.to_str().unwrap();
    assert_eq!(dlq(&stage, "", &["export", "--file", file]).await.code, Some(0));

    let diff = json!(["- /changes/UpdateSequence: 1", "+ /changes/UpdateSequence: 9"]);
    let set = ["edit", &id[..20], "--set", "/changes/UpdateSequence=9", "--output", "json"];
    let dry = parsed(&dlq(&stage, "", &[&set[..], &["--dry-run"]].concat()).await);
    assert_eq!((&dry["diff"], &dry["new_letter"]), (&diff, &Value::Null));
    let unchanged = parsed(&dlq(&stage, "", &["show", &id, "--output", "json"]).await);
    assert_eq!(unchanged["body"], update(1, 1));

    let editor = "sed -i -e 's/\"UpdateSequence\": 1/\"UpdateSequence\": 9/'";
    let edit = ["edit", &id, "--output", "json"];
    let edited = parsed(&dlq(&stage, editor, &edit).await);
    let new = edited["new_letter"].as_str().unwrap();
    assert_eq!((&edited["diff"], &edited["letter"]), (&diff, &json!(id)));
    assert_eq!(depth().await, 1);

    // As it is when the program dies before the old one leaves the queue.
    let import = ["import", "--file", file, "--output", "json"];
    assert_eq!(parsed(&dlq(&stage, "", &import).await)["imported"], 1);
    let plan = parsed(&dlq(&stage, "", &["plan", "--output", "json"]).await);
    assert_eq!(plan["prospects"], json!({"held": 1, "would_apply": 1}), "{plan}");
    let again = parsed(&dlq(&stage, editor, &edit).await);
    assert_eq!((again["new_letter"].as_str(), depth().await), (Some(new), 1));

    let shown = parsed(&dlq(&stage, "", &["show", new, "--output", "json"]).await);
    let told = &shown["edited"];
    assert_eq!(
        (&told["from"], &told["by"], &told["count"]),
        (&json!(id), &json!("kim@desk"), &json!(1))
    );
    let replay = parsed(&dlq(&stage, "", &["replay", "--run", "--output", "json"]).await);
    assert_eq!((&replay["counts"], depth().await), (&json!({"applied": 1}), 0));
    let order = stage.simulator.order("USMF", "SO-000001").await.unwrap();
    assert_eq!(order["properties"]["UpdateSequence"], 9);

    let history = dlq(&stage, "", &["history", "--output", "ndjson"]).await;
    let events: Vec<Value> =
        history.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let edits: Vec<_> = events.iter().filter(|it| it["event"] == "edited").collect();
    assert_eq!(edits.len(), 2, "{events:?}");
    for it in edits {
        assert_eq!((&it["letter"], &it["new_letter"]), (&json!(id), &json!(new)));
        let lines: Vec<_> = it["diff"].as_str().unwrap().lines().collect();
        assert_eq!(json!(lines), diff);
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edit_that_is_refused_says_where_and_changes_nothing() {
    let (stage, daemon, id) = refused("edit-refused").await;
    for (words, code, said) in [
        (&["--set", "/key/SalesOrderNumber=SO-000002"][..], 65, "/key is locked"),
        (&["--set", "/sequence=7"], 65, "/sequence is locked"),
        (&["--set", "/changes/none/x=1"], 65, "no place \"/changes/none/x\""),
        (&["--set", "/colour=red"], 65, "unknown field \"colour\""),
        (&["--remove", "/changes"], 65, "missing field `changes`"),
        (&["--with", "/nonexistent"], 65, "/nonexistent"),
        (&[], 64, "neither VISUAL nor EDITOR"),
    ] {
        let ran = dlq(&stage, "", &[&["edit", &id], words].concat()).await;
        assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
    }
    // Ctrl-C in an editor reaches all programs on its terminal, and is meant for the editor.
    let editor = "kill -INT $PPID; sed -i -e 's/\"UpdateSequence\": 1/\"UpdateSequence\": 8/'";
    let kept = dlq(&stage, editor, &["edit", &id, "--dry-run", "--output", "json"]).await;
    assert_eq!(parsed(&kept)["diff"][1], "+ /changes/UpdateSequence: 8", "{}", kept.stderr);
    let ended = dlq(&stage, "kill -TERM $PPID; true", &["edit", &id]).await;
    assert_eq!(ended.code, Some(75), "a termination is meant for all: {}", ended.stderr);
    let failed = dlq(&stage, "false", &["edit", &id]).await;
    assert!(failed.code == Some(65) && failed.stderr.contains("nothing is changed"));
    let same = dlq(&stage, "true", &["edit", &id]).await;
    assert_eq!((same.code, same.stdout.as_str()), (Some(0), "nothing is changed\n"));
    let letter = parsed(&dlq(&stage, "", &["show", &id, "--output", "json"]).await);
    assert_eq!(letter["body"], update(1, 1));
    assert_eq!(stage.channel().await.depth("dead-letters").await, 1);
    daemon.stop().await;
}
