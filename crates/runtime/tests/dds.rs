//! Nodes over DDS on the loopback interface. Each test has a domain of its own.

mod toy;

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use spikewing_msgs::{
    Message,
    rcl_interfaces::{
        GetParameters, GetParameters_Request, Parameter, ParameterType, ParameterValue, SetParameters,
        SetParameters_Request,
    },
    spikewing_msgs::{Authority, MotorCommand, PolicyUpdate},
    std_srvs::{SetBool, SetBool_Request, SetBool_Response, Trigger, Trigger_Request},
};
use spikewing_runtime::{
    Declaration, NodeOptions, Parameters, Span, Time,
    dds::{DdsConfig, ServiceMapping},
    node::{Finish, Shutdown},
    port::{Client, Input, Interface, Output, Qos, Server},
};
use toy::{Call, Running, named};

const PING: Output<MotorCommand> = Output::new("ping", Qos::sensor(1));
const PING_IN: Input<MotorCommand> = Input::new("ping", Qos::sensor(1));
const PONG: Output<MotorCommand> = Output::new("pong", Qos::sensor(1));
const PONG_IN: Input<MotorCommand> = Input::new("pong", Qos::sensor(1));
const AUTHORITY: Output<Authority> = Output::new("authority", Qos::latched());
const AUTHORITY_IN: Input<Authority> = Input::new("authority", Qos::latched());
const UPDATE: Output<PolicyUpdate> = Output::new("policy/update", Qos::latched());
const UPDATE_IN: Input<PolicyUpdate> = Input::new("policy/update", Qos::latched());
const SWITCH: Server<SetBool> = Server::new("~/switch");

const PATIENCE: Duration = Duration::from_secs(20);

fn domain(domain_id: u16) -> DdsConfig {
    DdsConfig { domain_id, ..DdsConfig::default() }
}

#[test]
fn a_hop_takes_less_than_a_control_period() {
    let config = domain(101);
    let _echo = Running::start(
        config,
        named("echo"),
        Interface::new().input(&PING_IN).output(&PONG),
        |_, call, out| {
            if let Call::Message(message) = call
                && let Some(ping) = message.on(&PING_IN)
            {
                out.publish(&PONG, ping.clone());
            }
        },
    );
    let (sender, times) = mpsc::channel();
    let begin = Instant::now();
    let interface = Interface::new().output(&PING).input(&PONG_IN).timer("tick", Span::from_millis(10));
    let mut sent = (Instant::now(), 0_u64);
    let _ping = Running::start(config, named("ping"), interface, move |_, call, out| match call {
        Call::Timer => {
            sent = (Instant::now(), sent.1 + 1);
            out.publish(&PING, MotorCommand { policy_version: sent.1, ..MotorCommand::default() });
        }
        Call::Message(message) => {
            let answered = message.on(&PONG_IN).is_some_and(|m| m.policy_version == sent.1);
            if answered {
                let _ = sender.send(sent.0.elapsed());
            }
        }
        _ => {}
    });
    let first = times.recv_timeout(PATIENCE).expect("no answer");
    eprintln!("first answer after {:?} ({first:?})", begin.elapsed());
    let mut hops: Vec<Duration> = (0..200).map(|_| times.recv_timeout(PATIENCE).unwrap() / 2).collect();
    hops.sort();
    eprintln!("hop: median {:?}, 90 % {:?}, worst {:?}", hops[100], hops[180], hops[199]);
    assert!(hops[100] < Duration::from_millis(5), "median hop {:?}", hops[100]);
}

#[test]
fn a_late_joiner_gets_the_latched_sample() {
    let config = domain(102);
    let interface = Interface::new().output(&AUTHORITY);
    let _early = Running::start(config, named("early"), interface, |_, call, out| {
        if let Call::Start = call {
            out.publish(&AUTHORITY, Authority { reason: "first".into(), ..Authority::default() });
            out.publish(&AUTHORITY, Authority { reason: "last".into(), ..Authority::default() });
        }
    });
    std::thread::sleep(Duration::from_millis(1500));
    let (sender, received) = mpsc::channel();
    let _late =
        Running::start(config, named("late"), Interface::new().input(&AUTHORITY_IN), move |_, call, _| {
            if let Call::Message(message) = call {
                let _ = sender.send(message.on(&AUTHORITY_IN).unwrap().reason.clone());
            }
        });
    let mut reason = received.recv_timeout(PATIENCE).expect("nothing came");
    while let Ok(next) = received.recv_timeout(Duration::from_millis(500)) {
        reason = next;
    }
    assert_eq!(reason, "last");
}

#[test]
fn services_answer_in_both_mappings_and_fail_by_name_without_a_server() {
    for (number, mapping) in [(103, ServiceMapping::Enhanced), (104, ServiceMapping::Cyclone)] {
        let config = domain(number);
        let _server =
            Running::start(config, named("server"), Interface::new().server(&SWITCH), |_, call, _| {
                if let Call::Request(request, answer) = call {
                    let on = request.on(&SWITCH).unwrap().data;
                    *answer =
                        Some(SetBool_Response { success: on, message: format!("switched {on}") }.wrap());
                }
            });
        const CLIENT: Client<SetBool> = Client::new("server/switch");
        const ABSENT: Client<Trigger> = Client::new("nobody/there");
        let (sender, received) = mpsc::channel();
        let interface = Interface::new().client(&CLIENT).client(&ABSENT);
        let _client = Running::start(
            DdsConfig { mapping, ..config },
            named("client"),
            interface,
            move |_, call, out| match call {
                Call::Start => {
                    out.call(&CLIENT, SetBool_Request { data: true });
                    out.call(&CLIENT, SetBool_Request { data: false });
                    out.call(&ABSENT, Trigger_Request::default());
                }
                Call::Response(response) => {
                    let text = match (response.on(&CLIENT), response.on(&ABSENT)) {
                        (Some(Ok(answer)), _) => format!("{} {}", response.call.0, answer.message),
                        (Some(Err(reason)), _) | (_, Some(Err(reason))) => {
                            format!("{} {reason}", response.call.0)
                        }
                        _ => "an answer from nobody".to_owned(),
                    };
                    let _ = sender.send(text);
                }
                _ => {}
            },
        );
        let mut texts: Vec<String> = (0..3).map(|_| received.recv_timeout(PATIENCE).unwrap()).collect();
        texts.sort();
        assert_eq!(texts[0], "1 switched true", "{mapping:?}");
        assert_eq!(texts[1], "2 switched false", "{mapping:?}");
        assert!(texts[2].contains("/nobody/there") && texts[2].contains("2 s"), "{}", texts[2]);
    }
}

#[test]
fn parameters_are_read_and_set_over_the_standard_services() {
    let config = domain(105);
    let declarations = vec![
        Declaration::float("gain", 1.0).range(0.0, 2.0).dynamic(),
        Declaration::integer("size", 3).range(1.0, 9.0),
    ];
    let options = NodeOptions { parameters: Parameters::defaults(declarations), ..named("subject") };
    let (new_gain, gains) = mpsc::channel();
    let _subject = Running::start(config, options, Interface::new(), move |_, call, _| {
        if let Call::Parameters(parameters) = call {
            let _ = new_gain.send(parameters.float("gain").unwrap());
        }
    });
    const GET: Client<GetParameters> = Client::new("/subject/get_parameters");
    const SET: Client<SetParameters> = Client::new("/subject/set_parameters");
    let (sender, received) = mpsc::channel();
    let interface = Interface::new().client(&GET).client(&SET);
    let _asker = Running::start(config, named("asker"), interface, move |_, call, out| match call {
        Call::Start => {
            let number = |value| ParameterValue {
                kind: ParameterType::PARAMETER_DOUBLE,
                double_value: value,
                ..ParameterValue::default()
            };
            let parameters = [("gain", 1.5), ("gain", 5.0), ("size", 4.0), ("gian", 1.0)]
                .map(|(name, value)| Parameter { name: name.into(), value: number(value) });
            out.call(&SET, SetParameters_Request { parameters: parameters.to_vec() });
        }
        Call::Response(response) => {
            if let Some(answer) = response.on(&SET) {
                let results = answer.unwrap().results.iter().map(|r| r.reason.clone()).collect();
                let _ = sender.send(results);
                let names = ["gain", "size", "use_sim_time", "nothing"].map(str::to_owned).to_vec();
                out.call(&GET, GetParameters_Request { names });
            } else if let Some(answer) = response.on(&GET) {
                let values =
                    answer.unwrap().values.iter().map(|v| format!("{} {}", v.kind, v.double_value)).collect();
                let _ = sender.send(values);
            }
        }
        _ => {}
    });
    let reasons: Vec<String> = received.recv_timeout(PATIENCE).unwrap();
    assert_eq!(reasons[0], "");
    assert!(reasons[1].contains("0 to 2") && reasons[2].contains("fixed at start"), "{reasons:?}");
    assert!(reasons[3].contains("did you mean `gain`"), "{reasons:?}");
    assert_eq!(gains.recv_timeout(PATIENCE), Ok(1.5));
    let values: Vec<String> = received.recv_timeout(PATIENCE).unwrap();
    assert_eq!(values, ["3 1.5", "2 0", "1 0", "0 0"]);
}

#[test]
fn a_policy_of_400_kb_reaches_several_subscribers() {
    let config = domain(106);
    let data: Vec<u8> = (0..400_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let expected = data.clone();
    let (sender, received) = mpsc::channel();
    let _readers: Vec<Running> = (0..3)
        .map(|index| {
            let (sender, expected) = (sender.clone(), expected.clone());
            let interface = Interface::new().input(&UPDATE_IN);
            Running::start(config, named(&format!("reader_{index}")), interface, move |_, call, _| match call
            {
                Call::Message(message) => {
                    let update = message.on(&UPDATE_IN).unwrap();
                    assert!(update.data == expected, "the policy came changed");
                    let _ = sender.send((index, update.version, Instant::now()));
                }
                Call::Malformed(reason) => panic!("{reason}"),
                _ => {}
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    let interface = Interface::new().output(&UPDATE).timer("tick", Span::from_millis(500));
    let mut version = 0;
    let (sent, times) = mpsc::channel();
    let _writer = Running::start(config, named("writer"), interface, move |_, call, out| {
        if let Call::Timer = call {
            version += 1;
            let _ = sent.send((version, Instant::now()));
            out.publish(&UPDATE, PolicyUpdate { version, data: data.clone(), ..PolicyUpdate::default() });
        }
    });
    let mut seen = [0; 3];
    let end = Instant::now() + PATIENCE;
    while seen.iter().any(|&count| count < 4) {
        let (index, version, at): (usize, u64, Instant) =
            received.recv_timeout(end - Instant::now()).unwrap_or_else(|_| panic!("only {seen:?} arrived"));
        seen[index] += 1;
        let sent: Vec<(u64, Instant)> = times.try_iter().collect();
        if let Some((_, begin)) = sent.iter().find(|(v, _)| *v == version) {
            eprintln!("400 kB, version {version}: {:?} to reader {index}", at - *begin);
        }
    }
}

#[test]
fn a_slow_node_sees_the_present_and_not_the_past() {
    let config = domain(107);
    let (sender, received) = mpsc::channel();
    let _slow = Running::start(config, named("slow"), Interface::new().input(&PING_IN), move |_, call, _| {
        if let Call::Message(message) = call {
            let _ = sender.send((message.on(&PING_IN).unwrap().policy_version, Instant::now()));
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    let newest = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&newest);
    let interface = Interface::new().output(&PING).timer("tick", Span::from_millis(5));
    let _fast = Running::start(config, named("fast"), interface, move |_, call, out| {
        if let Call::Timer = call {
            let version = counter.fetch_add(1, Ordering::Relaxed) + 1;
            out.publish(&PING, MotorCommand { policy_version: version, ..MotorCommand::default() });
        }
    });
    received.recv_timeout(PATIENCE).unwrap();
    for _ in 0..8 {
        let (version, at) = received.recv_timeout(PATIENCE).unwrap();
        let behind = newest.load(Ordering::Relaxed).saturating_sub(version);
        assert!(behind <= 4 + at.elapsed().as_millis() as u64 / 5, "{behind} samples behind");
    }
}

#[test]
fn garbage_on_the_ports_and_malformed_samples_stop_nothing() {
    let config = domain(108);
    let (sender, received) = mpsc::channel();
    let _reader =
        Running::start(config, named("reader"), Interface::new().input(&PING_IN), move |_, call, _| {
            let _ = match call {
                Call::Message(message) => {
                    sender.send(format!("good {}", message.on(&PING_IN).unwrap().policy_version))
                }
                Call::Malformed(reason) => sender.send(format!("bad {reason}")),
                _ => Ok(()),
            };
        });
    // Somebody whose MotorCommand is another type under the same name: the same topic, other bytes.
    let (name, other) = ("rt/ping".to_owned(), "spikewing_msgs::msg::dds_::MotorCommand_".to_owned());
    let stranger = rustdds::DomainParticipantBuilder::new(config.domain_id)
        .with_only_networks([std::net::Ipv4Addr::LOCALHOST])
        .build()
        .unwrap();
    let qos = rustdds::QosPolicyBuilder::new().best_effort().build();
    let topic = stranger.create_topic(name, other, &qos, rustdds::TopicKind::NoKey).unwrap();
    let publisher = stranger.create_publisher(&qos).unwrap();
    let writer = publisher.create_datawriter_no_key_cdr::<(u32, u64)>(&topic, None).unwrap();
    let end = Instant::now() + PATIENCE;
    while !received.try_iter().any(|text: String| text.starts_with("bad")) {
        assert!(Instant::now() < end, "the malformed sample was not reported");
        writer.write((u32::MAX, u64::MAX), None).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    for round in 0..4000 {
        let mut datagram: Vec<u8> = (0..random() % 600).map(|_| random() as u8).collect();
        if round % 2 == 0 {
            // As far as it goes, a message of the protocol: header, then submessages of random kinds and lengths.
            let header = [b"RTPS\x02\x04\x01\x12".as_slice(), &[7; 12]].concat();
            datagram.splice(0..0, header);
        }
        let port = 7400 + 250 * config.domain_id + 10 + (random() % 8) as u16;
        let _ = socket.send_to(&datagram, ("127.0.0.1", port));
    }
    let _good = Running::start(
        config,
        named("good"),
        Interface::new().output(&PING).timer("tick", Span::from_millis(20)),
        |_, call, out| {
            if let Call::Timer = call {
                out.publish(&PING, MotorCommand { policy_version: 77, ..MotorCommand::default() });
            }
        },
    );
    let end = Instant::now() + PATIENCE;
    while !received.try_iter().any(|text| text == "good 77") {
        assert!(Instant::now() < end, "nothing gets through after the garbage");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_node_that_may_not_stop_yet_goes_on_until_it_may() {
    let config = domain(109);
    let mut asked: Option<Time> = None;
    let interface = Interface::new().output(&PING).timer("tick", Span::from_millis(10));
    let (sender, ticks) = mpsc::channel();
    let running = Running::start(config, named("lands"), interface, move |now, call, _| match call {
        Call::Shutdown(answer) => {
            let since = *asked.get_or_insert(now);
            if now - since < Span::from_millis(300) {
                *answer = Shutdown::Wait;
            }
        }
        Call::Timer if asked.is_some() => {
            let _ = sender.send(());
        }
        _ => {}
    });
    std::thread::sleep(Duration::from_millis(500));
    let begin = Instant::now();
    running.stop.store(true, Ordering::Relaxed);
    assert_eq!(running.join(), Finish::Success);
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(290) && took < Duration::from_secs(4), "{took:?}");
    assert!(ticks.try_iter().count() > 15, "timers stood still during shutdown");
}

#[test]
fn seven_participants_find_each_other() {
    let config = domain(110);
    const CHORUS: Output<MotorCommand> = Output::new("chorus", Qos::sensor(20));
    const CHORUS_IN: Input<MotorCommand> = Input::new("chorus", Qos::sensor(20));
    let begin = Instant::now();
    let (sender, received) = mpsc::channel();
    let _all: Vec<Running> = (0..7)
        .map(|index: u8| {
            let sender = sender.clone();
            let interface =
                Interface::new().output(&CHORUS).input(&CHORUS_IN).timer("tick", Span::from_millis(10));
            let mut heard = [false; 7];
            heard[usize::from(index)] = true;
            Running::start(config, named(&format!("node_{index}")), interface, move |_, call, out| match call
            {
                Call::Timer => {
                    out.publish(&CHORUS, MotorCommand { source: index, ..MotorCommand::default() })
                }
                Call::Message(message) => {
                    let from = usize::from(message.on(&CHORUS_IN).unwrap().source);
                    heard[from] = true;
                    if heard.iter().all(|&h| h) {
                        let _ = sender.send(index);
                    }
                }
                _ => {}
            })
        })
        .collect();
    let mut complete = [false; 7];
    let end = begin + PATIENCE;
    while !complete.iter().all(|&c| c) {
        let wait = end.checked_duration_since(Instant::now()).unwrap_or_default();
        let index = received.recv_timeout(wait).unwrap_or_else(|_| panic!("only {complete:?} heard all"));
        complete[usize::from(index)] = true;
    }
    eprintln!("seven participants hear each other after {:?}", begin.elapsed());
}
