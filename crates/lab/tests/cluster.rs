//! A whole formation on real etcd, Patroni and PostgreSQL.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::time::Duration;

use lab::Lab;

const LONG: Duration = Duration::from_secs(90);

#[test]
fn a_formation_comes_up_switches_over_and_survives_a_crash() {
    let lab = Lab::builder()
        .workers(3)
        .databases(["postgres", "app2"])
        .start()
        .unwrap();
    println!(
        "{} with {}, up in {:.1?}",
        lab.version(),
        lab.flavour(),
        lab.start_up_time()
    );

    let leaders = lab.leaders().unwrap();
    assert_eq!(leaders.len(), 4);
    for database in lab.databases() {
        assert_eq!(lab.rows(database).unwrap(), leaders, "database {database}");
    }

    let wk1 = lab.scope("wk1").unwrap();
    let former = wk1.leader().unwrap().name();
    wk1.switchover(None).unwrap();
    let second = wk1.wait_new_leader(former, LONG).unwrap().name();
    wk1.wait_healthy(LONG).unwrap();
    assert_eq!(wk1.leader().unwrap().name(), second);
    wk1.switchover(Some(former)).unwrap();
    wk1.wait_new_leader(second, LONG).unwrap();
    wk1.wait_healthy(LONG).unwrap();
    wk1.restart().unwrap();
    wk1.wait_healthy(LONG).unwrap();
    assert_eq!(wk1.leader().unwrap().name(), former);

    let wk2 = lab.scope("wk2").unwrap();
    let victim = wk2.crash().unwrap();
    assert!(!victim.is_running() && victim.connect("postgres").is_err());
    wk2.expire_leader().unwrap();
    wk2.wait_new_leader(victim.name(), LONG).unwrap();
    assert_eq!(wk2.revive().unwrap(), [victim.name()]);
    wk2.wait_healthy(LONG).unwrap();

    let wk3 = lab.scope("wk3").unwrap();
    let frozen = wk3.freeze().unwrap();
    assert!(frozen.is_running() && frozen.connect("postgres").is_err());
    wk3.thaw();
    wk3.wait_healthy(LONG).unwrap();
    assert_eq!(wk3.leader().unwrap().name(), frozen.name());
}
