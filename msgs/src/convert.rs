//! Small constructors that every node needs.

use crate::{builtin_interfaces::Time, geometry_msgs, std_msgs::Header};

const NANOSECONDS_PER_SECOND: i64 = 1_000_000_000;

impl Time {
    /// From nanoseconds since the clock's epoch. Beyond what the wire can hold (the year 2038) it saturates.
    pub fn from_nanoseconds(nanoseconds: i64) -> Self {
        let seconds = nanoseconds.div_euclid(NANOSECONDS_PER_SECOND);
        let sec = i32::try_from(seconds).unwrap_or(if seconds < 0 { i32::MIN } else { i32::MAX });
        Self { sec, nanosec: nanoseconds.rem_euclid(NANOSECONDS_PER_SECOND) as u32 }
    }

    /// Nanoseconds since the clock's epoch.
    pub fn nanoseconds(&self) -> i64 {
        i64::from(self.sec) * NANOSECONDS_PER_SECOND + i64::from(self.nanosec)
    }
}

impl Header {
    /// A header from its two parts.
    pub fn new(stamp: Time, frame_id: &str) -> Self {
        Self { stamp, frame_id: frame_id.to_owned() }
    }
}

impl geometry_msgs::Vector3 {
    /// From components.
    pub fn new(x: f64, y: f64, z: f64) -> Self {
        Self { x, y, z }
    }

    /// Components in order.
    pub fn to_array(&self) -> [f64; 3] {
        [self.x, self.y, self.z]
    }
}

impl geometry_msgs::Point {
    /// From components.
    pub fn new(x: f64, y: f64, z: f64) -> Self {
        Self { x, y, z }
    }

    /// Components in order.
    pub fn to_array(&self) -> [f64; 3] {
        [self.x, self.y, self.z]
    }
}
