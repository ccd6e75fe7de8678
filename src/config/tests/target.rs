//! What depends on the service: profiles, and how we sign in.

use super::*;

const SECRET: &str =
    "[target.auth]\nkind = \"client_secret\"\ntenant = \"contoso.com\"\nclient_id = \"app\"\n";

fn shown(loaded: &Loaded, key: &str) -> (String, String) {
    let values = catalogue::values(&loaded.settings);
    let (_, value) = values.into_iter().find(|(path, _)| path == key).unwrap();
    (value.to_string(), loaded.origin(key).to_string())
}

#[test]
fn profile_gives_defaults_that_show_their_origin_and_that_anything_given_wins_over() {
    let loaded = load("[target]\nprofile = \"dataverse\"", &[("ORDER__ENTITY_SET", "orders")]);
    let loaded = loaded.unwrap();
    let pair = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    let profile = "profile dataverse";
    assert_eq!(shown(&loaded, "target.cross_company"), pair("false", profile));
    assert_eq!(shown(&loaded, "order.key"), pair("[\"salesorderid\"]", profile));
    assert_eq!(shown(&loaded, "order.key_guid"), pair("[\"salesorderid\"]", profile));
    let variable = "environment variable ORDERWRIGHT__ORDER__ENTITY_SET";
    assert_eq!(shown(&loaded, "order.entity_set"), pair("\"orders\"", variable));
    assert_eq!(shown(&loaded, "target.csrf"), pair("false", "default"));

    let own = "[target]\nprofile = \"sap\"\ncsrf = false\n[order]\nkey = [\"ID\"]";
    let loaded = load(own, &[]).unwrap();
    assert!(!loaded.settings.target.csrf);
    assert_eq!(loaded.settings.order.key, ["ID"]);
}

#[test]
fn key_of_ones_own_takes_nothing_that_is_said_of_the_profiles_key() {
    let loaded = load("[target]\nprofile = \"bc\"\n[order]\nkey = [\"number\"]", &[]).unwrap();
    assert_eq!(loaded.settings.order.key_guid, Vec::<String>::new());
    assert_eq!(loaded.settings.order.key_fold_case, Vec::<String>::new());
}

#[test]
fn every_profile_is_valid_as_it_is_and_names_keys_that_exist() {
    for profile in [Profile::Fo, Profile::Dataverse, Profile::Bc, Profile::Sap, Profile::Odata] {
        let loaded = load("", &[("TARGET__PROFILE", profile.name())]).unwrap();
        for (key, value) in profile.defaults() {
            let origin = format!("profile {}", profile.name());
            assert_eq!(shown(&loaded, key), (value.to_string(), origin));
        }
    }
    let found = mistakes("", &[("TARGET__PROFILE", "s4")]);
    assert_eq!(
        found,
        [
            "target.profile = \"s4\" (environment variable ORDERWRIGHT__TARGET__PROFILE): must be one \
          of fo, dataverse, bc, sap, odata"
        ]
    );
}

#[test]
fn sign_in_says_everything_that_is_missing_and_everything_that_is_too_much() {
    let mut found = mistakes(
        "[target]\nbearer_token = \"t\"\n[target.auth]\nkind = \"client_secret\"\n\
         federated_token_file = \"/t\"",
        &[],
    );
    found.sort();
    let kind = "target.auth.kind = \"client_secret\" (file FILE)";
    let needed = "the second is needed where the first is client_secret";
    let unused = "the second is not looked at where the first is client_secret";
    assert_eq!(
        found,
        [
            format!("{kind}, target.auth.client_id = \"\" (default): {needed}"),
            format!("{kind}, target.auth.client_secret (default): {needed}"),
            format!("{kind}, target.auth.federated_token_file = \"/t\" (file FILE): {unused}"),
            format!("{kind}, target.auth.tenant = \"\" (default): {needed}"),
            format!("{kind}, target.bearer_token (file FILE): {unused}"),
        ]
    );
    assert_eq!(
        mistakes("", &[("TARGET__AUTH__CLIENT_SECRET", "hush")]),
        [
            "target.auth.kind = \"bearer\" (default), target.auth.client_secret (environment variable \
          ORDERWRIGHT__TARGET__AUTH__CLIENT_SECRET): the second is not looked at where the first \
          is bearer"
        ]
    );
}

#[test]
fn client_secret_may_stand_in_a_file_of_its_own() {
    let secret = file("hush\n");
    let path = secret.path().to_str().unwrap();
    let loaded = load(SECRET, &[("TARGET__AUTH__CLIENT_SECRET_FILE", path)]).unwrap();
    let text = loaded.settings.target.auth.client_secret.as_ref().unwrap();
    assert_eq!(text.expose_secret(), "hush");
    assert!(!format!("{loaded:?}").contains("hush"));
    assert_eq!(shown(&loaded, "target.auth.client_secret").0, "\"***\"");
}

#[test]
fn sign_in_is_checked_value_by_value() {
    for (name, text) in [
        ("TENANT", "a/b"),
        ("TENANT", ".."),
        ("CLIENT_ID", "a b"),
        ("CLIENT_SECRET", "two\nlines"),
        ("CLIENT_SECRET", ""),
        ("SCOPE", "a b"),
        ("AUTHORITY", "ftp://login.example"),
        ("AUTHORITY", "https://ann@login.example"),
        ("AUTHORITY", "https://login.example/?x=1"),
        ("TIMEOUT", "31s"),
    ] {
        let key = format!("TARGET__AUTH__{name}");
        let variables: &[(&str, &str)] = if name == "CLIENT_SECRET" {
            &[(&key, text)]
        } else {
            &[("TARGET__AUTH__CLIENT_SECRET", "hush"), (&key, text)]
        };
        let found = mistakes(SECRET, variables);
        assert_eq!(found.len(), 1, "{name} {text:?} {found:?}");
        assert!(!found[0].contains("hush"), "{found:?}");
    }
    assert!(load(SECRET, &[("TARGET__AUTH__CLIENT_SECRET", "hush")]).is_ok());
}

#[test]
fn scope_follows_from_the_services_address() {
    let variables = [
        ("TARGET__URL", "https://Contoso.Operations.Dynamics.com/data/"),
        ("TARGET__AUTH__CLIENT_SECRET", "hush"),
    ];
    let settings = load(SECRET, &variables).unwrap().settings;
    let (auth, url) = (&settings.target.auth, &settings.target.url);
    let root = "https://contoso.operations.dynamics.com";
    assert_eq!(auth.scope(url), ("scope", format!("{root}/.default")));
    let login = "https://login.microsoftonline.com/contoso.com";
    assert_eq!(auth.token_url(), format!("{login}/oauth2/v2.0/token"));
    let v1 = Auth { endpoint: AuthEndpoint::V1, ..auth.clone() };
    assert_eq!(v1.scope(url), ("resource", root.to_owned()));
    assert_eq!(v1.token_url(), format!("{login}/oauth2/token"));
    let own = Auth { scope: "api://other/.default".to_owned(), ..auth.clone() };
    assert_eq!(own.scope(url), ("scope", "api://other/.default".to_owned()));
}

#[test]
fn workload_identity_is_taken_from_azures_variables_where_it_is_asked_for_and_nothing_is_given() {
    let azure = [
        ("AZURE_CLIENT_ID", "app"),
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/token"),
        ("AZURE_AUTHORITY_HOST", "https://login.example/"),
    ];
    let load = |ours: &[(&str, &str)]| {
        let ours = ours.iter().map(|(name, value)| (format!("ORDERWRIGHT__{name}"), *value));
        let azure = azure.iter().map(|(name, value)| ((*name).to_owned(), *value));
        let environment = azure.chain(ours).map(|(name, value)| (name, value.to_owned())).collect();
        Settings::load(&Sources { file: None, environment }).unwrap()
    };
    let kind = ("TARGET__AUTH__KIND", "workload_identity");
    let loaded = load(&[kind, ("TARGET__AUTH__CLIENT_ID", "own")]);
    let auth = &loaded.settings.target.auth;
    assert_eq!((&*auth.client_id, &*auth.tenant), ("own", "tenant"));
    assert_eq!(auth.federated_token_file, "/var/run/token");
    assert_eq!(auth.token_url(), "https://login.example/tenant/oauth2/v2.0/token");
    let variable = Origin::Environment("AZURE_TENANT_ID".to_owned());
    assert_eq!(loaded.origin("target.auth.tenant"), &variable);

    assert_eq!(load(&[]).settings.target.auth.client_id, "");
}
