//! What an answer means, and that the documents say the same.

use super::*;

#[test]
fn etag_is_taken_from_the_header_else_from_the_body() {
    let wanted = update(r#"{"A":2}"#);
    let body = r#"{"@odata.etag":"W/\"body\"","A":1}"#;
    assert_eq!(fetched(&Ok(answer(200, body)), &wanted), found("W/\"body\"", Judgement::Outdated));
    let both = Answer { etag: Some(etag("W/\"header\"")), ..answer(200, body) };
    assert_eq!(fetched(&Ok(both), &wanted), found("W/\"header\"", Judgement::Outdated));
    let missed = fetched(&Ok(answer(200, r#"{"A":1}"#)), &wanted);
    assert_eq!(missed, Fetch::Missed(Trouble::Systemic(Code::NoEtag)));
    let error = Answer { etag: Some(etag("\"1\"")), ..answer(200, r#"{"error":{"code":"x"}}"#) };
    assert_eq!(fetched(&Ok(error), &wanted), Fetch::Missed(Trouble::Failure(Code::UnknownOutcome)));
    let cut = fetched(&Ok(answer(200, "{\"A\":")), &wanted);
    let unknown = Trouble::Failure(Code::UnknownOutcome);
    assert_eq!(cut, Fetch::Missed(unknown));
}

#[test]
fn codes_are_distinct_and_every_one_is_documented() {
    let document = protocol_document();
    for (index, code) in Code::ALL.iter().enumerate() {
        let earlier = Code::ALL[..index].iter().any(|other| other.as_str() == code.as_str());
        assert!(!earlier, "{code:?} shares its name");
        assert!(document.contains(&format!("`{}`", code.as_str())), "{code:?} is not documented");
    }
}

fn protocol_document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PROTOCOL.md");
    std::fs::read_to_string(path).unwrap()
}

/// The replies that a row's status and text columns stand for.
fn replies(status: &str, text: &str) -> Vec<Reply> {
    let infolog = |message: &str, kind: &str| {
        format!(
            r#"{{"error":{{"code":"","message":"An error has occurred.","innererror":{{"message":"{message}","type":"{kind}","stacktrace":""}}}}}}"#
        )
    };
    let write = "Microsoft.Dynamics.Platform.Integration.Services.OData.AxODataWriteException";
    let body = match text {
        "JSON" => r#"{"A":1}"#.to_owned(),
        "error" => r#"{"error":{"code":"","message":"no"}}"#.to_owned(),
        "broken JSON" => r#"{"A":"#.to_owned(),
        "HTML" => "<html>Sign in</html>".to_owned(),
        "XML error" => {
            r#"<?xml version="1.0"?><m:error xmlns:m="x"><m:message>no</m:message></m:error>"#
                .to_owned()
        }
        "empty" | "Retry-After" => String::new(),
        "update conflict" => infolog("An Update conflict occurred due to another user.", write),
        "deadlock" => infolog("The statement was a deadlock victim.", write),
        "AxODataWriteException" => infolog("Write failed. Infolog: Warning: no.", write),
        "wrong address" => infolog("Resource not found for the segment 'X'.", ""),
        "wrong route" => {
            r#"{"Message":"No HTTP resource was found that matches the request URI 'x'."}"#
                .to_owned()
        }
        "-" | "Repeatability-Result: rejected" => infolog("no", "System.InvalidOperationException"),
        other => panic!("unknown text {other:?} in the table"),
    };
    let fault = match status {
        "no connection" => Some(Fault::Unreachable),
        "certificate not trusted" => Some(Fault::Untrusted),
        "deadline passed" => Some(Fault::Timeout),
        "connection broken" => Some(Fault::Broken),
        "answer too large" => Some(Fault::TooLarge),
        "sign-in refused" => Some(Fault::SignIn(SignIn::Config)),
        "no sign-in now" => Some(Fault::SignIn(SignIn::Unavailable)),
        "CSRF token refused" => Some(Fault::Csrf),
        _ => None,
    };
    if let Some(fault) = fault {
        return vec![Err(fault)];
    }
    let told = (text == "Retry-After").then_some(Duration::from_secs(1));
    let repeat_rejected = text == "Repeatability-Result: rejected";
    let one = |status: &str| Answer {
        retry_after: told,
        repeat_rejected,
        ..answer(status.parse().unwrap(), &body)
    };
    status.split(' ').map(|status| Ok(one(status))).collect()
}

#[test]
fn documented_table_is_what_the_code_does() {
    let document = protocol_document();
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let rows: Vec<_> = document.lines().map(cells).filter(|row| row.len() == 5).collect();
    let mut checked = 0;
    for row in rows.iter().filter(|row| ["GET", "PATCH", "both"].contains(&row[0].as_str())) {
        let requests: &[Request] = match row[0].as_str() {
            "GET" => &[Request::Get],
            "PATCH" => &[Request::Patch],
            _ => &[Request::Get, Request::Patch],
        };
        for request in requests {
            for reply in replies(&row[1], &row[2]) {
                let (class, code) = match judged(*request, &reply) {
                    Verdict::Done => ("done", String::new()),
                    Verdict::Not(trouble @ Trouble::Conflict(_)) => ("conflict", name(trouble)),
                    Verdict::Not(trouble @ Trouble::Failure(_)) => ("failure", name(trouble)),
                    Verdict::Not(trouble @ Trouble::Throttled { .. }) => {
                        ("throttled", name(trouble))
                    }
                    Verdict::Not(trouble @ Trouble::Systemic(_)) => ("systemic", name(trouble)),
                    Verdict::Not(trouble @ Trouble::Outage(_)) => {
                        panic!("{trouble:?} of one reply")
                    }
                    Verdict::Not(trouble @ Trouble::Refused(_)) => ("refused", name(trouble)),
                };
                assert_eq!((class, &*code), (&*row[3], &*row[4]), "{request:?} {row:?} {reply:?}");
                checked += 1;
            }
        }
    }
    assert!(checked > 90, "only {checked} cases were read from the table");
}

fn name(trouble: Trouble) -> String {
    format!("`{}`", trouble.code().as_str())
}

#[test]
fn page_is_known_by_how_it_begins_whatever_it_says_of_itself() {
    let refused = |body: &str| judged(Request::Patch, &Ok(answer(400, body)));
    let page = Verdict::Not(Trouble::Failure(Code::NotOData));
    for body in [
        "<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 4.01//EN\"><HTML><H2>Bad Request - Invalid Hostname",
        "\u{feff}<!DOCTYPE html>",
        "\r\n  <html>",
        "<?xml version=\"1.0\"?>\n<!DOCTYPE html><html xmlns=\"x\">",
        "<?xml",
    ] {
        assert_eq!(refused(body), page, "{body}");
    }
    let own = Verdict::Not(Trouble::Refused(Code::Rejected));
    for body in ["", "Bad Request", "<error xmlns=\"x\">", "<?xml version='1.0'?><error/>"] {
        assert_eq!(refused(body), own, "{body}");
    }
}

#[test]
fn texts_of_another_language_are_a_matter_of_the_settings() {
    let body = r#"{"error":{"code":"","message":"Fehler","innererror":{"message":"Aktualisierungskonflikt in Aufträge.","type":"X"}}}"#;
    let reply = Ok(answer(500, body));
    let failure = Verdict::Not(Trouble::Failure(Code::ServerError));
    assert_eq!(judged(Request::Patch, &reply), failure);
    let german = Texts::new(&["AKTUALISIERUNGSKONFLIKT".to_owned()], &[], &[], &[]);
    let conflict = Verdict::Not(Trouble::Conflict(Code::UpdateConflict));
    assert_eq!(verdict::verdict(Request::Patch, &reply, &german), conflict);
}

#[test]
fn only_what_certainly_changed_nothing_leaves_no_doubt() {
    let doubt = |code| Trouble::Failure(code).leaves_doubt();
    for code in [Code::Gateway, Code::Timeout, Code::UnknownOutcome, Code::ServerError] {
        assert!(doubt(code), "{code:?}");
    }
    let unwritten = [Code::Unreachable, Code::Auth, Code::Forbidden, Code::Certificate];
    for code in unwritten.into_iter().chain([Code::Dependency, Code::NotFound]) {
        assert!(!doubt(code), "{code:?}");
    }
    // Never sent, or answered 401 before, or refused for what a write needs besides.
    for fault in [
        Fault::SignIn(SignIn::Config),
        Fault::SignIn(SignIn::Unavailable),
        Fault::Csrf,
        Fault::Unreachable,
        Fault::Untrusted,
    ] {
        let verdict = judged(Request::Patch, &Err(fault));
        let Verdict::Not(trouble) = verdict else { panic!("{fault:?}") };
        assert!(!trouble.leaves_doubt(), "{fault:?}");
    }
    let throttled = |code| Trouble::Throttled { code, retry_after: None }.leaves_doubt();
    assert!(throttled(Code::Unavailable) && !throttled(Code::Throttled));
}

#[test]
fn page_that_stands_in_for_the_service_is_no_sign_that_it_works() {
    let looked = |body: &str| look(&Ok(answer(200, body)), &texts());
    assert_eq!(looked(r#"{"value":[]}"#), Verdict::Done);
    let unknown = Verdict::Not(Trouble::Failure(Code::UnknownOutcome));
    for body in [r#"{"status":"maintenance"}"#, r#"{"error":{"code":"x"},"value":[]}"#] {
        assert_eq!(looked(body), unknown, "{body}");
    }
    for (status, code) in [
        (400, Code::Rejected),
        (404, Code::WrongAddress),
        (410, Code::Rejected),
        (413, Code::TooLarge),
    ] {
        let refused = look(&Ok(answer(status, "default backend - 404")), &texts());
        assert_eq!(refused, Verdict::Not(Trouble::Systemic(code)), "{status}");
    }
}
