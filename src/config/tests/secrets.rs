//! Secrets come from files too, and show nowhere.

use super::*;

/// Every text that a load can produce for people.
fn seen(result: &Result<Loaded, Errors>) -> String {
    match result {
        Ok(loaded) => format!("{loaded:?} {}", serde_json::to_string(&loaded.settings).unwrap()),
        Err(errors) => format!("{errors} {errors:?}"),
    }
}

#[test]
fn secret_file_is_read_without_its_newline_and_is_the_origin() {
    let secret = file("amqp://ann:hush@rabbit/%2f\r\n");
    let path = secret.path().to_str().unwrap();
    let by_variable = load("", &[("BROKER__URL_FILE", path)]).unwrap();
    let by_key = load(&format!("[broker]\nurl_file = {path:?}"), &[]).unwrap();
    for loaded in [by_variable, by_key] {
        assert_eq!(loaded.settings.broker.url.expose(), "amqp://ann:hush@rabbit/%2f");
        assert_eq!(loaded.origin("broker.url"), &Origin::SecretFile(path.into()));
    }
}

#[test]
fn secret_that_can_be_read_again_says_where() {
    let secret = file("hush");
    let path = secret.path().to_str().unwrap();
    let auth = "[target.auth]\nkind = \"client_secret\"\ntenant = \"t\"\nclient_id = \"c\"";
    let from = |text: &str, variable: &str, value: &str| {
        let target = load(text, &[(variable, value)]).unwrap().settings.target;
        [target.bearer_token_file, target.auth.client_secret_file]
    };
    let there = Some(path.into());
    assert_eq!(from("", "TARGET__BEARER_TOKEN_FILE", path), [there.clone(), None]);
    assert_eq!(from(auth, "TARGET__AUTH__CLIENT_SECRET_FILE", path), [None, there]);
    assert_eq!(from("", "TARGET__BEARER_TOKEN", "hush"), [None, None]);
}

#[test]
fn both_forms_of_a_secret_in_one_source_are_refused() {
    assert_eq!(
        mistakes("", &[("TARGET__BEARER_TOKEN", "hush"), ("TARGET__BEARER_TOKEN_FILE", "/t")]),
        ["target.bearer_token (environment variable ORDERWRIGHT__TARGET__BEARER_TOKEN), \
          target.bearer_token_file (environment variable ORDERWRIGHT__TARGET__BEARER_TOKEN_FILE): \
          give one of the two, not both"]
    );
    assert_eq!(
        mistakes("[broker]\nurl = \"amqp://rabbit/v\"\nurl_file = \"/u\"", &[]),
        ["broker.url (file FILE), broker.url_file (file FILE): give one of the two, not both"]
    );
}

#[test]
fn either_form_of_a_secret_replaces_both_of_an_earlier_source() {
    let secret = file("of-the-file");
    let path = secret.path().to_str().unwrap();
    let token =
        |loaded: Loaded| loaded.settings.target.bearer_token.unwrap().expose_secret().to_owned();
    let plain = "[target]\nbearer_token = \"earlier\"";
    assert_eq!(token(load(plain, &[("TARGET__BEARER_TOKEN_FILE", path)]).unwrap()), "of-the-file");
    let by_file = "[target]\nbearer_token_file = \"no/such/file\"";
    assert_eq!(token(load(by_file, &[("TARGET__BEARER_TOKEN", "later")]).unwrap()), "later");
}

#[test]
fn unreadable_secret_file_is_named_with_the_systems_reason() {
    let found = mistakes("", &[("BROKER__URL_FILE", "no/such/file")]);
    assert_eq!(found.len(), 1);
    let start = "broker.url_file = \"no/such/file\" (environment variable \
                 ORDERWRIGHT__BROKER__URL_FILE): the file cannot be read: ";
    assert!(found[0].starts_with(start), "{found:?}");
    assert!(found[0].contains("os error 2"), "{found:?}");
}

#[test]
fn oversized_secret_file_is_refused() {
    let secret = file(&"x".repeat(64 * 1024 + 1));
    let found = mistakes("", &[("TARGET__BEARER_TOKEN_FILE", secret.path().to_str().unwrap())]);
    assert!(found[0].ends_with("the file is larger than 65536 bytes"), "{found:?}");
}

#[test]
fn valid_secrets_do_not_show() {
    let variables = [
        ("BROKER__URL", "amqp://ann:hush@rabbit/v"),
        ("BROKER__MANAGEMENT_URL", "http://ann:hush@rabbit:15672"),
        ("TARGET__BEARER_TOKEN", "hush"),
    ];
    let loaded = load("", &variables);
    assert!(loaded.is_ok());
    assert!(!seen(&loaded).contains("hush"), "{}", seen(&loaded));
}

#[test]
fn sources_do_not_show_their_values() {
    let environment = [("ORDERWRIGHT__TARGET__BEARER_TOKEN".to_owned(), "hush".to_owned())].into();
    let shown = format!("{:?}", Sources { file: None, environment });
    assert!(shown.contains("BEARER_TOKEN") && !shown.contains("hush"), "{shown}");
}

#[test]
fn wrong_secrets_do_not_show_in_the_mistake() {
    for (toml, variables) in [
        ("", [("BROKER__URL", "amqp://ann:hush@rab bit:x/")]),
        ("", [("BROKER__URL", "hush")]),
        ("", [("BROKER__URL", "http://ann:hush@rabbit/v")]),
        ("", [("BROKER__URL", "amqp://ann:1#hush@rabbit/v")]),
        ("", [("BROKER__URL", "amqp://ann:1/hush@rabbit/v")]),
        ("", [("BROKER__URL", "amqp://ann:1?hush@rabbit/v")]),
        ("", [("BROKER__URL", "amqp://ann:hush@rabbit/")]),
        ("", [("BROKER__MANAGEMENT_URL", "amqp://ann:hush@rabbit:15672")]),
        ("", [("BROKER__MANAGEMENT_URL", "http://ann:1/hush@rabbit:15672")]),
        ("", [("BROKER__MANAGEMENT_URL", "http://ann:1#hush@rabbit:15672")]),
        ("", [("BROKER__MANAGEMENT_URL", "http://ann:hush@rabbit:15672/api/")]),
        ("", [("TARGET__URL", "https://ann:hush@contoso.com/data")]),
        ("", [("TARGET__URL", "https://ann:hush@cont oso.com/data")]),
        ("", [("TARGET__BEARER_TOKEN", "two hush words")]),
        ("", [("TARGET__BEARER_TOKN", "hush")]),
        ("", [("TARGET__BEARER_TOKEN", "hush\u{fffd}")]),
        ("[target]\nbearer_token = [\"hush\"]", [("LOG__LEVEL", "info")]),
        ("[target]\nbearer_token_file = [\"hush\"]", [("LOG__LEVEL", "info")]),
        ("[broker]\nurl = { hush = \"hush\" }", [("LOG__LEVEL", "info")]),
        ("[broker]\nulr = \"amqp://ann:hush@rabbit/v\"", [("LOG__LEVEL", "info")]),
        // Not TOML: the parser would quote the line.
        ("[broker]\nurl = amqp://ann:hush@rabbit/v", [("LOG__LEVEL", "info")]),
        ("[broker]\nurl = \"amqp://ann:hush@rabbit/v", [("LOG__LEVEL", "info")]),
        ("[broker]\nurl = \"amqp://ann:\\hush@rabbit/v\"", [("LOG__LEVEL", "info")]),
        ("[broker]\nurl = hush", [("LOG__LEVEL", "info")]),
        ("[broker]\nurl = 12hush", [("LOG__LEVEL", "info")]),
        ("[broker]\nurl = \"\"\"\nhush\n", [("LOG__LEVEL", "info")]),
        ("[broker]\nurl = 'a' 'hush'", [("LOG__LEVEL", "info")]),
        ("[broker]\nurl = \"a\"\nurl = \"hush\"", [("LOG__LEVEL", "info")]),
    ] {
        let result = load(toml, &variables);
        assert!(result.is_err(), "{toml} {variables:?}");
        assert!(!seen(&result).contains("hush"), "{}", seen(&result));
    }
}

#[test]
fn numeric_token_does_not_show_in_the_mistake() {
    assert_eq!(
        mistakes("[target]\nbearer_token = 12345", &[]),
        ["target.bearer_token (file FILE): must be text"]
    );
}
