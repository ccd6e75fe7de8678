//! Loads settings from all sources and collects every mistake on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::catalogue::{self, Kind};
use super::layer::{Given, Layer, PREFIX};
use super::mistake::{Errors, Mistake, Origin, Place};
use super::{Auth, AuthKind, Profile, Settings, bounded};

/// Largest secret file, in bytes. Tokens have a few thousand; a whole disk named by accident is not
/// read into memory.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// From this many keys on, a mistake names only those that somebody gave, not the defaults.
const PLACES_FEW: usize = 3;

/// Where settings come from, besides the defaults. The environment wins over the file.
#[derive(Clone, Default)]
pub struct Sources {
    /// The TOML file, if any. A file that is named must exist.
    pub file: Option<PathBuf>,
    /// Environment variables. Those without the prefix `ORDERWRIGHT__` are not looked at, except
    /// for the four of Azure's workload identity.
    pub environment: BTreeMap<String, String>,
}

impl Sources {
    /// This file, and the variables of this process.
    pub fn of_process(file: Option<PathBuf>) -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let ours = |(name, value)| {
            let name = text(name);
            let wanted = name.starts_with(PREFIX) || Auth::AZURE.iter().any(|(it, _)| *it == name);
            wanted.then(|| (name, text(value)))
        };
        Self { file, environment: std::env::vars_os().filter_map(ours).collect() }
    }
}

impl fmt::Debug for Sources {
    /// Names the variables only: any of them may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.environment.keys().collect();
        f.debug_struct("Sources").field("file", &self.file).field("environment", &names).finish()
    }
}

/// Settings that keep every rule, and where each of them comes from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The origins of the keys that somebody gave. What is missing here has its default.
    pub origins: BTreeMap<String, Origin>,
}

impl Loaded {
    /// Where the value of this dotted key comes from.
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }
}

impl Settings {
    /// Merges the sources over the defaults, key by key, and checks the result.
    ///
    /// Reads the file and the files of secrets, so it blocks: call it before the runtime starts.
    pub fn load(sources: &Sources) -> Result<Loaded, Errors> {
        let file = sources.file.as_deref().map(Layer::file).unwrap_or_default();
        let file_failed = file.mistakes.iter().any(whole_file);
        let mut loading = Loading::default();
        loading.merge(file);
        loading.merge(Layer::environment(&sources.environment));
        loading.read_secret_files();
        loading.take_profile();
        loading.take_workload_identity(&sources.environment);
        let mut settings = loading.deserialize();
        settings.target.bearer_token_file = loading.secret_file("target.bearer_token");
        settings.target.auth.client_secret_file = loading.secret_file("target.auth.client_secret");
        loading.check(&settings, file_failed);
        if !loading.mistakes.is_empty() {
            return Err(Errors::new(loading.mistakes));
        }
        let origins = loading.given.into_iter().map(|(key, given)| (key, given.origin)).collect();
        Ok(Loaded { settings, origins })
    }
}

/// Whether a mistake left a file unread, and so any number of keys unknown.
fn whole_file(mistake: &Mistake) -> bool {
    mistake.places.iter().any(|place| place.key.is_none())
}

/// The merged values so far, and what is wrong with them. No `Debug`: the values may be secrets.
#[derive(Default)]
struct Loading {
    given: BTreeMap<String, Given>,
    mistakes: Vec<Mistake>,
}

impl Loading {
    /// Lets a later source win. A secret has two forms, and either replaces both of an earlier
    /// source; both in one source is a mistake, since no order says which is meant.
    fn merge(&mut self, mut layer: Layer) {
        self.mistakes.append(&mut layer.mistakes);
        for key in catalogue::keys().filter(|key| key.secret) {
            let file = format!("{}_file", key.path);
            let plain = layer.given.get(&key.path);
            let (Some(plain), Some(by_file)) = (plain, layer.given.get(&file)) else {
                if layer.given.contains_key(&key.path) || layer.given.contains_key(&file) {
                    self.given.remove(&key.path);
                    self.given.remove(&file);
                }
                continue;
            };
            let places = vec![place(&key.path, plain, None), place(&file, by_file, None)];
            self.mistakes.push(Mistake { places, rule: "give one of the two, not both".into() });
            layer.given.remove(&key.path);
            layer.given.remove(&file);
        }
        self.given.append(&mut layer.given);
    }

    /// Replaces each `…_file` by the content of its file.
    fn read_secret_files(&mut self) {
        for key in catalogue::keys().filter(|key| key.secret) {
            let file = format!("{}_file", key.path);
            let Some(given) = self.given.remove(&file) else { continue };
            let read = match given.value.as_str() {
                Some(path) => bounded::read(Path::new(path), SECRET_BYTES_MAX)
                    .map(|text| (text, path.to_owned()))
                    .map_err(|reason| format!("the file {reason}")),
                None => Err("must be the path of a file".to_owned()),
            };
            match read {
                Ok((text, path)) => {
                    let value = Value::String(text.trim_end_matches(['\r', '\n']).to_owned());
                    let origin = Origin::SecretFile(path.into());
                    self.given.insert(key.path.clone(), Given { value, origin });
                }
                Err(rule) => {
                    // A path is no secret, but anything else here may be one in the wrong place.
                    let shown = given.value.is_string().then(|| given.value.to_string());
                    let places = vec![place(&file, &given, shown)];
                    self.mistakes.push(Mistake { places, rule });
                }
            }
        }
    }

    /// Where a secret was read from, for whoever reads it again: it may be replaced meanwhile.
    fn secret_file(&self, key: &str) -> Option<PathBuf> {
        match &self.given.get(key)?.origin {
            Origin::SecretFile(path) => Some(path.clone()),
            Origin::Default | Origin::Profile(_) | Origin::File(_) | Origin::Environment(_) => None,
        }
    }

    /// A choice as somebody gave it. `None` if nobody did, or if there is no such choice: that is
    /// found when the settings are built.
    fn choice<T: serde::de::DeserializeOwned>(&self, key: &str) -> Option<T> {
        serde_json::from_value(self.given.get(key)?.value.clone()).ok()
    }

    /// Fills in what the profile has to say of keys that nobody gave.
    fn take_profile(&mut self) {
        let profile: Profile = self.choice("target.profile").unwrap_or_default();
        let origin = Origin::Profile(profile.name().to_owned());
        // What is said of the profile's key does not fit another one.
        let own_key = self.given.contains_key("order.key");
        for (key, value) in profile.defaults() {
            let of_key = key == "order.key_fold_case" || key == "order.key_guid";
            let value = if own_key && of_key { Value::Array(Vec::new()) } else { value };
            let given = Given { value, origin: origin.clone() };
            self.given.entry(key.to_owned()).or_insert(given);
        }
    }

    /// Fills in what the cluster tells a workload, where it signs in with its identity.
    fn take_workload_identity(&mut self, variables: &BTreeMap<String, String>) {
        let kind: AuthKind = self.choice("target.auth.kind").unwrap_or_default();
        if kind != AuthKind::WorkloadIdentity {
            return;
        }
        for (variable, key) in Auth::AZURE {
            if let Some(text) = variables.get(variable).filter(|text| !text.is_empty()) {
                let origin = Origin::Environment(variable.to_owned());
                let given = Given { value: Value::String(text.clone()), origin };
                self.given.entry(key.to_owned()).or_insert(given);
            }
        }
    }

    /// Builds the settings. Serde stops at the first value that does not fit, so that one is noted,
    /// taken out and the rest tried again: at most once per value.
    fn deserialize(&mut self) -> Settings {
        loop {
            let error = match serde_path_to_error::deserialize(self.tree()) {
                Ok(settings) => return settings,
                Err(error) => error,
            };
            let path = error.path().to_string();
            let Some((key, given)) = self.given.remove_entry(path.split('[').next().unwrap_or(""))
            else {
                // Every leaf is a known key, so this is a fault of ours; the message has no value.
                let rule = format!("does not fit the settings at {path}");
                let place = Place { key: Some(path), origin: Origin::Default, given: None };
                self.mistakes.push(Mistake { places: vec![place], rule });
                return Settings::default();
            };
            let Some(known) = catalogue::key(&key) else { continue };
            // The rule is ours: the error's own text would quote the value, secret or not.
            let rule = format!("must be {}", known.expected());
            let shown = shown(known, &given.value);
            self.mistakes.push(Mistake { places: vec![place(&key, &given, shown)], rule });
        }
    }

    /// The values as a tree of sections.
    fn tree(&self) -> Value {
        let mut root = Map::new();
        for (path, given) in &self.given {
            plant(&mut root, path, &given.value);
        }
        Value::Object(root)
    }

    /// Adds what the rules find. A key that has a mistake of its own stands at its default by now, or
    /// will be changed, so a rule between keys would judge what nobody wants: such findings are
    /// dropped. Several rules between one key and others are all told.
    fn check(&mut self, settings: &Settings, file_failed: bool) {
        let values: BTreeMap<_, _> = catalogue::values(settings).into_iter().collect();
        let findings = settings.check();
        let mut spoilt: BTreeSet<String> = findings
            .iter()
            .filter_map(|finding| match finding.keys.as_slice() {
                [key] => Some((*key).to_owned()),
                _ => None,
            })
            .collect();
        let places = self.mistakes.iter().flat_map(|mistake| &mistake.places);
        spoilt.extend(places.filter_map(|place| place.key.clone()));
        for finding in findings {
            let between = finding.keys.len() > 1;
            if between && (file_failed || finding.keys.iter().any(|key| spoilt.contains(*key))) {
                continue;
            }
            let mut places = Vec::new();
            for key in finding.keys.iter().filter_map(|path| catalogue::key(path)) {
                if let Some(given) = self.given.get(&key.path) {
                    places.push(place(&key.path, given, shown(key, &given.value)));
                } else if finding.keys.len() <= PLACES_FEW {
                    let given = values.get(&key.path).and_then(|value| shown(key, value));
                    places.push(Place {
                        key: Some(key.path.clone()),
                        origin: Origin::Default,
                        given,
                    });
                }
            }
            self.mistakes.push(Mistake { places, rule: finding.rule });
        }
    }
}

/// Puts a value into a tree of sections.
fn plant(table: &mut Map<String, Value>, path: &str, value: &Value) {
    let Some((section, rest)) = path.split_once('.') else {
        table.insert(path.to_owned(), value.clone());
        return;
    };
    let below = table.entry(section).or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(below) = below {
        plant(below, rest, value);
    }
}

fn place(key: &str, given: &Given, shown: Option<String>) -> Place {
    Place { key: Some(key.to_owned()), origin: given.origin.clone(), given: shown }
}

/// The value for a message. `None` for secrets, and for an address with somebody in it.
fn shown(key: &catalogue::Key, value: &Value) -> Option<String> {
    let text = value.to_string();
    let hidden = key.secret || (key.kind == Kind::Url && text.contains('@'));
    (!hidden).then_some(text)
}
