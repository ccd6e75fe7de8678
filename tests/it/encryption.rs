//! A target behind TLS: what is wrong with it is told by `check target`, and waited for by the daemon.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use crate::daemon::{Daemon, orderwright};
use crate::stage::{Stage, updates};

/// Issues certificates, and is trusted by whoever names its file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
    _folder: TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let base64 = base64::engine::general_purpose::STANDARD
            .encode(params.self_signed(&key).unwrap().der());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("authority.pem");
        let dashes = "-----";
        let pem = format!(
            "{dashes}BEGIN CERTIFICATE{dashes}\n{base64}\n{dashes}END CERTIFICATE{dashes}\n"
        );
        std::fs::write(&file, pem).unwrap();
        Self { issuer: Issuer::new(params, key), file, _folder: folder }
    }

    /// What a service shows that has this name, between these years.
    fn certificate(&self, name: &str, years: [i32; 2]) -> TlsAcceptor {
        self.offering(&[], name, years)
    }

    /// The same of one that offers these protocols, what it prefers first.
    fn offering(&self, protocols: &[&str], name: &str, years: [i32; 2]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        [params.not_before, params.not_after] = years.map(|year| date_time_ymd(year, 1, 1));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.der().clone()], key.into());
        let mut config = config.unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// What stands at the port of a service.
enum Door {
    /// TLS, and the simulator behind it.
    Tls(TlsAcceptor),
    /// These bytes, whatever is asked, and the end.
    Says(&'static [u8]),
    /// Nothing at all.
    Silent,
}

/// Its address. It stands as long as the tasks.
async fn stand(door: Door, behind: SocketAddr) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = match door {
        Door::Tls(acceptor) => Ok(acceptor),
        Door::Says(bytes) => Err(Some(bytes)),
        Door::Silent => Err(None),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut visits = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            visits.spawn(async move {
                match acceptor {
                    Ok(acceptor) => {
                        let Ok(mut stream) = acceptor.accept(stream).await else { return };
                        let mut service = TcpStream::connect(behind).await.unwrap();
                        // Whoever hangs up ends it.
                        drop(copy_bidirectional(&mut stream, &mut service).await);
                    }
                    Err(Some(bytes)) => {
                        // What was asked is read, or the end would be a reset.
                        stream.readable().await.unwrap();
                        drop(stream.try_read(&mut [0; 4096]));
                        stream.write_all(bytes).await.unwrap();
                    }
                    Err(None) => std::future::pending().await,
                }
            });
        }
    });
    (address, tasks)
}

fn address(stage: &Stage) -> SocketAddr {
    stage.simulator_url().strip_prefix("http://").unwrap().parse().unwrap()
}

/// Settings for a target behind TLS, which trust what this authority issues and nothing else.
async fn settings(stage: &Stage, at: SocketAddr, trusts: &Authority) -> Vec<(String, String)> {
    let url = format!("https://{at}/data");
    let ours = [("TARGET__URL", &*url), ("TARGET__CONNECT_TIMEOUT", "2s")];
    let mut settings =
        stage.settings(&[&ours[..], &[("BREAKER__PROBE_INTERVAL", "100ms")]].concat()).await;
    settings.push(("SSL_CERT_FILE".to_owned(), trusts.file.to_str().unwrap().to_owned()));
    settings
}

/// The last step that was looked at, and the exit code.
async fn last(settings: &[(String, String)]) -> (Option<i32>, Vec<Value>) {
    let arguments = ["check", "target", "--key", "USMF/SO-000001", "--output", "json"];
    let output = orderwright(settings).args(arguments).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

const YEARS: [i32; 2] = [2020, 2120];

#[tokio::test(flavor = "multi_thread")]
async fn trouble_with_tls_is_told_by_its_step_in_words_that_say_what_it_is() {
    let stage = Stage::new("tls-check", &["--orders", "1"]).await;
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let good = |name, years| Door::Tls(ours.certificate(name, years));
    // A fatal alert: no version in common.
    let alert = b"\x15\x03\x01\x00\x02\x02\x46";
    let trials = [
        (good("127.0.0.1", YEARS), "latency", "fine", "median of 5 GETs", 0),
        (good("other.example", YEARS), "certificate", "wrong", "it is for other names", 78),
        (good("127.0.0.1", [2020, 2021]), "certificate", "unavailable", "it has expired", 69),
        (good("127.0.0.1", [2119, 2120]), "certificate", "wrong", "it is not valid yet", 78),
        (
            Door::Tls(others.certificate("127.0.0.1", YEARS)),
            "certificate",
            "wrong",
            "nobody that this machine trusts has issued it",
            78,
        ),
        (
            Door::Says(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            "tls",
            "wrong",
            "it is not TLS that answers",
            78,
        ),
        (Door::Says(alert), "tls", "wrong", "no version of TLS in common", 78),
        (Door::Says(b""), "tls", "unavailable", "the connection is cut during the handshake", 69),
        (Door::Silent, "tls", "unavailable", "nobody answers the handshake", 69),
    ];
    for (door, name, state, detail, code) in trials {
        let (at, _standing) = stand(door, address(&stage)).await;
        let (exit, steps) = last(&settings(&stage, at, &ours).await).await;
        let step = steps.last().unwrap();
        assert_eq!((&step["step"], &step["state"]), (&json!(name), &json!(state)), "{steps:#?}");
        assert!(step["detail"].as_str().unwrap().starts_with(detail), "{detail}: {step}");
        assert!(
            exit == Some(code) && (code == 0 || step["hint"] != ""),
            "{detail}: {exit:?} {step}"
        );
        let fine = |name: &str| steps.iter().any(|it| it["step"] == name && it["state"] == "fine");
        assert!(fine("tcp") && (name == "tls" || fine("tls")), "{steps:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn daemon_writes_over_tls_and_a_certificate_that_is_not_trusted_is_an_outage() {
    let stage = Stage::new("tls-daemon", &["--orders", "3"]).await;
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let door = Door::Tls(ours.certificate("127.0.0.1", YEARS));
    let (at, _standing) = stand(door, address(&stage)).await;
    let daemon = Daemon::start(&settings(&stage, at, &others).await).await;
    stage.publish(&updates(3, 2)).await;
    daemon.logs("the target does not work").await;
    let ended = daemon.stop().await;
    assert!(ended.log.contains("\"certificate\""), "{}", ended.log);
    assert_eq!(ended.summary.unwrap()["dead_lettered"], json!({}));
    let daemon = Daemon::start(&settings(&stage, at, &ours).await).await;
    let ledger = stage.applied(6).await;
    let ended = daemon.stop().await;
    assert_eq!((ended.count("applied"), ended.count("failures")), (6, 0), "{}", ended.log);
    assert_eq!((ledger.out_of_order, ledger.applied_twice), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn version_of_http_is_what_the_service_offers_and_the_settings_allow() {
    let stage = Stage::new("tls-http2", &["--orders", "1"]).await;
    let ours = Authority::new("ours");
    for (offered, version, is_fine) in [
        (&["h2"][..], "auto", true),
        (&["h2"], "http2", true),
        (&["h2"], "http1", false),
        (&["http/1.1"], "auto", true),
        (&["http/1.1"], "http1", true),
        (&["http/1.1"], "http2", false),
        (&["h2", "http/1.1"], "auto", true),
        (&["h2", "http/1.1"], "http1", true),
    ] {
        let door = Door::Tls(ours.offering(offered, "127.0.0.1", YEARS));
        let (at, _standing) = stand(door, address(&stage)).await;
        let mut settings = settings(&stage, at, &ours).await;
        settings.push(("ORDERWRIGHT__TARGET__HTTP_VERSION".to_owned(), version.to_owned()));
        let (code, steps) = last(&settings).await;
        let told = steps.last().unwrap();
        assert_eq!(code, Some(if is_fine { 0 } else { 78 }), "{offered:?} {version}: {steps:#?}");
        let names_it = told["hint"].as_str().is_some_and(|hint| hint.contains("http_version"));
        assert_eq!(names_it, !is_fine, "{offered:?} {version}: {told}");
    }
}
