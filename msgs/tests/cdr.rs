//! The decoder survives any bytes.

#![allow(clippy::unwrap_used, reason = "a failed test should say where")]

use proptest::prelude::*;
use spikewing_msgs::{Message, cdr, geometry_msgs, nav_msgs, spikewing_msgs as sw};

fn round_trip<M: Message>() {
    let message = M::default();
    let bytes = cdr::encode(&message).unwrap();
    let back: M = cdr::decode(&bytes).unwrap();
    // NaN is not equal to itself; defaults have none.
    assert_eq!(back, message, "{}", M::TYPE);
    for length in 0..bytes.len() {
        assert!(cdr::decode::<M>(&bytes[..length]).is_err(), "{} cut to {length} bytes", M::TYPE);
    }
    let mut padded = bytes.clone();
    padded.extend([0; 3]);
    assert!(cdr::decode::<M>(&padded).is_ok(), "{}", M::TYPE);
    padded.push(0);
    assert!(cdr::decode::<M>(&padded).is_err(), "{} with four bytes too many", M::TYPE);
}

fn survives<M: Message>(bytes: &[u8]) {
    let _ = cdr::decode::<M>(bytes);
}

#[test]
fn every_type_goes_there_and_back_and_refuses_to_be_cut() {
    macro_rules! check {
        ($message:ty, $name:expr) => {
            round_trip::<$message>();
        };
    }
    spikewing_msgs::for_each_message!(check);
}

#[test]
fn a_length_of_four_gigabytes_is_not_believed() {
    // version, parent, then a string that claims 4 GiB.
    let mut update = sw::PolicyUpdate { data: vec![7; 64], ..Default::default() };
    update.format = "safetensors".into();
    let mut bytes = cdr::encode(&update).unwrap();
    let at = bytes.windows(4).position(|w| w == 64_u32.to_le_bytes()).unwrap();
    bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(cdr::decode::<sw::PolicyUpdate>(&bytes).is_err());
}

#[test]
fn both_byte_orders_are_read_and_others_refused() {
    let point = geometry_msgs::Point::new(1.5, -2.0, 3.25);
    let mut big = vec![0, 0, 0, 0];
    for v in point.to_array() {
        big.extend(v.to_be_bytes());
    }
    assert_eq!(cdr::decode::<geometry_msgs::Point>(&big).unwrap(), point);
    big[1] = 9;
    let error = cdr::decode::<geometry_msgs::Point>(&big).unwrap_err().to_string();
    assert!(error.contains("0x0009"), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_are_survived_by_every_decoder(mut bytes in prop::collection::vec(any::<u8>(), 0..600), little in any::<bool>()) {
        if bytes.len() >= 4 {
            bytes[..4].copy_from_slice(&[0, u8::from(little), 0, 0]);
        }
        macro_rules! check {
            ($message:ty, $name:expr) => { survives::<$message>(&bytes); };
        }
        spikewing_msgs::for_each_message!(check);
    }

    #[test]
    fn a_changed_byte_is_survived(at in 4_usize..700, value in any::<u8>()) {
        let mut bytes = cdr::encode(&nav_msgs::Odometry::default()).unwrap();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        let _ = cdr::decode::<nav_msgs::Odometry>(&bytes);
    }
}
