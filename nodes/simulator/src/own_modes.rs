//! The modes in which PX4 flies by itself: hold, land, return, and a pilot's position and altitude mode with the sticks
//! centred.

use nalgebra::Vector3;
use spikewing_guide_policy::geometric::Geometric;
use spikewing_quad::{State, Vehicle};

use crate::autopilot::Control;

/// Speed of PX4's landing, m/s.
const LAND_SPEED: f64 = 0.5;
/// Distance from home at which a return lands, m.
const HOME_REACHED: f64 = 0.3;
/// Below this the vehicle stands on the ground, m.
const CONTACT: f64 = 1e-3;
/// No thrust.
pub const IDLE: [f64; 4] = [-1.0; 4];

/// PX4's own controllers.
#[derive(Clone, Debug)]
pub struct OwnModes {
    controller: Geometric,
    home: Vector3<f64>,
    setpoint: Option<Vector3<f64>>,
    descends: bool,
}

impl OwnModes {
    /// For a vehicle that takes off at `home`.
    pub fn new(vehicle: &Vehicle, home: Vector3<f64>) -> Self {
        Self { controller: Geometric::for_vehicle(vehicle), home, setpoint: None, descends: false }
    }

    /// Somebody else flies; the next own mode starts where the vehicle then is.
    pub fn release(&mut self) {
        self.setpoint = None;
        self.descends = false;
    }

    /// Whether a descent is commanded.
    pub fn descends(&self) -> bool {
        self.descends
    }

    /// Motor commands in [−1, 1] after `dt_s` more of the mode.
    pub fn command(&mut self, control: Control, state: &State, landed: bool, dt_s: f64) -> [f64; 4] {
        let mut setpoint = self.setpoint.unwrap_or(state.position);
        let home = (self.home - state.position).xy().norm() < HOME_REACHED;
        self.descends = match control {
            Control::Land => true,
            Control::Return => self.descends || home,
            Control::Off | Control::Offboard | Control::Hold | Control::Altitude => false,
        };
        match control {
            Control::Return if !self.descends => {
                setpoint = Vector3::new(self.home.x, self.home.y, setpoint.z)
            }
            // Nobody holds the position.
            Control::Altitude => setpoint = Vector3::new(state.position.x, state.position.y, setpoint.z),
            _ => {}
        }
        if self.descends {
            setpoint.z = (setpoint.z - LAND_SPEED * dt_s).max(-0.3);
        }
        self.setpoint = Some(setpoint);
        let touched = self.descends && state.position.z <= CONTACT && state.velocity.norm() < 0.05;
        // On touching the ground PX4's position controller takes the thrust away; whoever has landed has not taken off.
        if landed || touched {
            return IDLE;
        }
        self.controller.command(&state.observation(&setpoint)).map(f64::from)
    }
}
