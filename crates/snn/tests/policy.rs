//! Policy files: what comes back, what is refused and why.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use proptest::prelude::*;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use sha2::{Digest, Sha256};
use spikewing_snn::policy::{
    Kind, MAX_BYTES, Metadata, Model, Policy, PolicyError, PublicKey, Requirements, SecretKey,
};
use spikewing_snn::{Mlp, Network, Shape};

fn rng(seed: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed)
}

fn student() -> Policy {
    let mut metadata = Metadata::student("crazyflie");
    metadata.return_mean = Some(446.8);
    metadata.slope = Some(1.0 / 3.0);
    metadata.training_run = Some("run \"7\"\n".to_owned());
    metadata.extra.insert("note".to_owned(), "größer".to_owned());
    let shape = Shape { inputs: 18, hidden: vec![12, 7], outputs: 4 };
    Policy::spiking(Network::random(&shape, &mut rng(1)).unwrap(), metadata).unwrap()
}

fn guide() -> Policy {
    let mlp = Mlp::random(&[146, 16, 8, 4], &mut rng(2)).unwrap();
    Policy::mlp(mlp, Metadata::guide("crazyflie")).unwrap()
}

/// Rewrites the header's JSON, keeping the data.
fn edit(bytes: &[u8], change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    change(&mut header);
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &bytes[8 + length..]].concat()
}

/// Overwrites one value of a tensor.
fn poke(bytes: &[u8], tensor: &str, index: usize, value: f32) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let start = header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    let at = 8 + length + start + 4 * index;
    let mut bytes = bytes.to_vec();
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    bytes
}

#[test]
fn what_is_written_comes_back() {
    for policy in [student(), guide()] {
        let bytes = policy.to_bytes();
        let back = Policy::from_bytes(&bytes).unwrap();
        assert_eq!(back, policy);
        assert_eq!(back.to_bytes(), bytes, "the same policy gives the same bytes");
        back.verify(&Requirements::none()).unwrap();
    }
    student().verify(&Requirements::student()).unwrap();
    guide().verify(&Requirements::guide()).unwrap();
}

/// Other tools read it: the layout is safetensors' own.
#[test]
fn the_file_is_plain_safetensors() {
    let bytes = student().to_bytes();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("fc1.weight").unwrap().shape(), [12, 18]);
    assert_eq!(file.tensor("lif2.threshold").unwrap().shape(), [7]);
    assert_eq!(file.tensor("selftest.output").unwrap().shape(), [64, 4]);
    let (length, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(length % 8, 0);
    assert_eq!(header.metadata().as_ref().unwrap()["shape"], "18-12-7-4");
}

#[test]
fn saving_is_atomic_and_readable_by_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("student.safetensors");
    student().save(&path).unwrap();
    guide().save(&path).unwrap();
    assert_eq!(Policy::load(&path).unwrap(), guide());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");

    let mut broken = student();
    broken.metadata.control_rate_hz = f64::NAN;
    assert!(matches!(broken.save(&path), Err(PolicyError::BadMetadata { .. })));
    assert_eq!(Policy::load(&path).unwrap(), guide(), "the good file is untouched");

    let nowhere = folder.path().join("missing/student.safetensors");
    let error = student().save(&nowhere).unwrap_err();
    assert!(error.to_string().contains("missing/student.safetensors"), "{error}");
    assert!(matches!(Policy::load(&nowhere), Err(PolicyError::Io { .. })));
}

#[test]
fn a_return_not_yet_known_is_left_out() {
    let mut policy = student();
    policy.metadata.return_mean = Some(f64::NAN);
    assert_eq!(Policy::from_bytes(&policy.to_bytes()).unwrap().metadata.return_mean, None);
}

#[test]
fn each_failure_of_the_bytes_has_its_name() {
    let good = student().to_bytes();
    let error = |bytes: &[u8]| Policy::from_bytes_verified(bytes, &Requirements::student()).unwrap_err();
    assert!(matches!(error(b""), PolicyError::NotSafetensors { .. }));
    assert!(matches!(error(&vec![0; MAX_BYTES + 1]), PolicyError::TooLarge { .. }));
    assert!(matches!(error(&good[..good.len() - 1]), PolicyError::NotSafetensors { .. }));

    let meta = |key: &'static str, value: &'static str| {
        edit(&good, move |h| {
            h["__metadata__"][key] = value.into();
        })
    };
    assert!(matches!(error(&meta("format_version", "2")), PolicyError::Version { .. }));
    for (key, value) in [
        ("kind", "transformer"),
        ("shape", "18"),
        ("shape", "18-12-0-4"),
        ("shape", "18-99999999999999999999-4"),
        ("control_rate_hz", "fast"),
        ("control_rate_hz", "-100"),
        ("slope", "inf"),
    ] {
        let error = error(&meta(key, value));
        assert!(
            matches!(&error, PolicyError::BadMetadata { key: k, .. } if k == key),
            "{key} {value}: {error}"
        );
    }
    let without = |key: &'static str| {
        edit(&good, |h| {
            h["__metadata__"].as_object_mut().unwrap().remove(key);
        })
    };
    for key in ["format_version", "kind", "shape", "vehicle", "observation", "action", "control_rate_hz"] {
        assert!(matches!(error(&without(key)), PolicyError::MissingMetadata { key: k } if k == key), "{key}");
    }
    let bare = edit(&good, |h| {
        h.as_object_mut().unwrap().remove("__metadata__");
    });
    assert!(matches!(error(&bare), PolicyError::MissingMetadata { .. }));

    let renamed = |from: &'static str, to: &'static str| {
        edit(&good, |h| {
            let tensor = h.as_object_mut().unwrap().remove(from).unwrap();
            h[to] = tensor;
        })
    };
    for tensor in ["fc2.weight", "lif1.beta", "selftest.input", "selftest.output"] {
        let error = error(&renamed(tensor, "other"));
        assert!(matches!(&error, PolicyError::MissingTensor { tensor: t } if t == tensor), "{error}");
    }
    assert!(
        matches!(error(&meta("kind", "mlp")), PolicyError::UnexpectedTensor { tensor } if tensor == "lif1.beta")
    );
    assert!(matches!(error(&meta("shape", "18-12-7-5")), PolicyError::TensorShape { .. }));
    let typed = edit(&good, |h| h["fc1.bias"]["dtype"] = "I32".into());
    assert!(matches!(error(&typed), PolicyError::TensorType { .. }));

    for bad in [f32::NAN, f32::INFINITY, -1e7] {
        let error = error(&poke(&good, "lif2.threshold", 3, bad));
        assert!(
            matches!(&error, PolicyError::Value { tensor, index: 3, .. } if tensor == "lif2.threshold"),
            "{error}"
        );
    }
    assert!(matches!(error(&poke(&good, "selftest.input", 0, f32::NAN)), PolicyError::Value { .. }));
    // A weight that is sound but not the one the author had.
    let error = error(&poke(&good, "fc3.bias", 0, 0.9));
    assert!(matches!(error, PolicyError::SelfTest { output: 0, .. }), "{error}");
}

#[test]
fn each_failure_of_purpose_has_its_name() {
    let good = student();
    let error = |change: fn(&mut Requirements)| {
        let mut requirements = Requirements::student();
        change(&mut requirements);
        good.verify(&requirements).unwrap_err()
    };
    assert!(matches!(error(|r| r.kind = Some(Kind::Mlp)), PolicyError::Kind { .. }));
    assert!(matches!(error(|r| r.widths = Some(vec![18, 256, 128, 4])), PolicyError::Shape { .. }));
    assert!(matches!(error(|r| r.vehicle = Some("x500".to_owned())), PolicyError::Vehicle { .. }));
    assert!(matches!(
        error(|r| r.observation = Some("euler angles".to_owned())),
        PolicyError::Observation { .. }
    ));
    assert!(matches!(error(|r| r.action = Some("thrust and rates".to_owned())), PolicyError::Action { .. }));
    assert!(matches!(error(|r| r.control_rate_hz = Some(250.0)), PolicyError::ControlRate { .. }));
    assert!(matches!(error(|r| r.control_rate_hz = Some(f64::NAN)), PolicyError::ControlRate { .. }));
    let mut requirements = Requirements::student();
    requirements.control_rate_hz = Some(100.0);
    requirements.vehicle = Some("crazyflie".to_owned());
    good.verify(&requirements).unwrap();

    // A network of three inputs cannot mean the student's eighteen.
    let shape = Shape { inputs: 3, hidden: vec![5], outputs: 4 };
    let network = Network::random(&shape, &mut rng(3)).unwrap();
    let narrow = Policy::spiking(network, Metadata::student("crazyflie")).unwrap();
    assert!(matches!(narrow.verify(&Requirements::student()), Err(PolicyError::Shape { .. })));
}

#[test]
fn announced_digest_and_size_are_checked_first() {
    let bytes = student().to_bytes();
    let mut requirements = Requirements::student();
    requirements.sha256 = Some(Sha256::digest(&bytes).into());
    Policy::from_bytes_verified(&bytes, &requirements).unwrap();
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert!(matches!(Policy::from_bytes_verified(&flipped, &requirements), Err(PolicyError::Digest { .. })));
    requirements.max_bytes = bytes.len() - 1;
    assert!(matches!(Policy::from_bytes_verified(&bytes, &requirements), Err(PolicyError::TooLarge { .. })));
}

#[test]
fn only_what_a_trusted_key_signed_is_accepted() {
    let secret = SecretKey::from_hex(&"07".repeat(32)).unwrap();
    let stranger = SecretKey::generate(&mut rand::rng());
    assert_ne!(secret.public(), stranger.public());
    assert_eq!(SecretKey::from_hex(&secret.to_hex()).unwrap().public(), secret.public());
    assert_eq!(PublicKey::from_hex(&secret.public().to_string()).unwrap(), secret.public());
    assert!(!format!("{secret:?}").contains("0707"), "debug output must not show the secret");
    for text in ["", "07", &"g".repeat(64), &"ü".repeat(32)] {
        assert!(matches!(SecretKey::from_hex(text), Err(PolicyError::Key { .. })));
    }

    let requirements = Requirements { trusted_keys: vec![secret.public()], ..Requirements::student() };
    let check = |bytes: &[u8]| Policy::from_bytes_verified(bytes, &requirements);
    let mut policy = student();
    assert!(matches!(check(&policy.to_bytes()), Err(PolicyError::Unsigned)));
    policy.sign(&stranger);
    assert!(matches!(check(&policy.to_bytes()), Err(PolicyError::UntrustedSigner { .. })));
    policy.sign(&secret);
    let signed = policy.to_bytes();
    assert_eq!(check(&signed).unwrap(), policy);
    Policy::from_bytes_verified(&signed, &Requirements::student()).unwrap();

    // Any change afterwards voids it: metadata, weights, self-test.
    let renamed = edit(&signed, |h| h["__metadata__"]["vehicle"] = "x500".into());
    let noted = edit(&signed, |h| h["__metadata__"]["added"] = "later".into());
    let (weight, test) = (poke(&signed, "fc1.weight", 100, 0.1), poke(&signed, "selftest.output", 0, 0.1));
    for bytes in [renamed, noted, weight, test] {
        assert!(matches!(check(&bytes), Err(PolicyError::BadSignature { .. })));
    }
    let half = edit(&signed, |h| {
        h["__metadata__"].as_object_mut().unwrap().remove("signature");
    });
    assert!(matches!(check(&half), Err(PolicyError::MissingMetadata { key: "signature" })));
    let garbled = edit(&signed, |h| h["__metadata__"]["signature"] = "zz".into());
    assert!(matches!(check(&garbled), Err(PolicyError::BadMetadata { .. })));
}

#[test]
fn a_policy_that_cannot_fly_is_not_made() {
    let mut network = Network::random(&Shape::paper(), &mut rng(4)).unwrap();
    network.linear_mut()[1].weight_mut()[[3, 2]] = f32::NAN;
    let error = Policy::spiking(network, Metadata::student("crazyflie")).unwrap_err();
    assert!(error.to_string().contains("fc2.weight` entry 770"), "{error}");
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let bytes = student().to_bytes();
    for length in 0..bytes.len() {
        assert!(Policy::from_bytes(&bytes[..length]).is_err(), "cut to {length} of {}", bytes.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Policy::from_bytes(&bytes).is_err());
    }

    /// With a header of plausible length, so that the JSON is reached.
    #[test]
    fn arbitrary_headers_never_panic(header in "\\{(\"[a-z_.0-9]{0,12}\":(\\{\\}|\\[[0-9,]{0,9}\\]|[0-9]{1,25}|\"\"),?){0,6}\\}") {
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 64]].concat();
        prop_assert!(Policy::from_bytes(&bytes).is_err());
    }

    /// Bytes changed anywhere: refused, or read as another sound policy; verified or refused; never a panic.
    #[test]
    fn damaged_files_never_panic(at in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = student().to_bytes();
        for (index, value) in at {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(policy) = Policy::from_bytes_verified(&bytes, &Requirements::student())
            && let Model::Spiking(network) = policy.model()
        {
            prop_assert!(network.is_finite());
        }
    }

    #[test]
    fn any_metadata_comes_back(
        vehicle in ".{0,20}",
        run in prop::option::of(".{0,20}"),
        rate in 1e-3f64..1e5,
        value in prop::option::of(-1e9f64..1e9),
        extra in prop::collection::btree_map("x[a-z]{0,8}", ".{0,20}", 0..4),
    ) {
        let mut policy = student();
        policy.metadata.vehicle = vehicle;
        policy.metadata.training_run = run;
        policy.metadata.control_rate_hz = rate;
        policy.metadata.slope = value;
        policy.metadata.extra = extra;
        prop_assert_eq!(Policy::from_bytes(&policy.to_bytes()).unwrap(), policy);
    }
}
