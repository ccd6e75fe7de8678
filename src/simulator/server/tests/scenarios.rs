//! Scripts: each step at its time, and over the socket what it sets.

use super::*;
use crate::simulator::scenario::Scenario;

#[tokio::test(start_paused = true)]
async fn steps_are_carried_out_at_their_times_in_virtual_time() {
    let text = r#"
        speed = 10
        [[step]]
        at = "10s"
        set = { f18_maintenance = { lasts = "2m" } }
        [[step]]
        at = "1h"
        clear = true
    "#;
    let mut world = World::new(Settings { orders: 1, ..Settings::default() }).unwrap();
    let begun = Instant::now();
    let mut seen = Vec::new();
    play(Scenario::parse(text).unwrap().acts(), |act| {
        let at = begun.elapsed();
        let now = Timestamp::UNIX_EPOCH + at;
        world.act(act, now);
        seen.push((at.as_secs(), String::from_utf8(world.faults().to_vec()).unwrap()));
    })
    .await;
    let times: Vec<_> = seen.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [1, 360]);
    assert!(seen[0].1.contains(r#""f18_maintenance":[{"rate":1.0,"lasts":"12s"}]"#), "{seen:?}");
    assert!(!seen[1].1.contains("f18_maintenance"));
}

#[tokio::test]
async fn scenario_runs_with_the_server() {
    let text = r#"
        [[step]]
        at = "0s"
        set = { f9_redirect = 1, throttle = { requests = 1 } }
        tokens = { client_secret = "s" }
        [[step]]
        at = "0s"
        set = { f18_refuse_connections = { lasts = "200ms" } }
    "#;
    let scenario = Scenario::parse(text).unwrap();
    let sim = sim_with_admin(Settings { scenario, ..Settings::default() }).await;
    let admin = format!("http://{}/sim/faults", sim.admin.unwrap());
    let set = async {
        loop {
            let reply = sim.client.get(&admin).send().await.unwrap();
            if read(reply).await.get("f9_redirect").is_some() {
                return;
            }
        }
    };
    timeout(Duration::from_secs(30), set).await.unwrap();
    let open = async { while TcpStream::connect(sim.address).await.is_err() {} };
    timeout(Duration::from_secs(30), open).await.unwrap();
    let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let get = client.build().unwrap().get(format!("http://{}{ORDER}", sim.address));
    assert_eq!(get.send().await.unwrap().status(), 302);
    assert_eq!(sim.get(ORDER).await.status(), 429);
}
