//! How restless an action is: the power that it has above 5 Hz.
//!
//! A quadrotor of this size answers commands within a few hertz; what a pilot commands faster than that heats motors and
//! shakes the airframe without moving it. The measure is spectral, so that it separates such chatter from manoeuvres,
//! which the mean change from step to step does not.
//!
//! For each motor, over the flown steps after the first [`SETTLING_STEPS`], the mean is removed and the one-sided
//! periodogram taken; its bins above [`CUTOFF_HZ`] are summed. By Parseval's theorem all bins together are the variance of
//! the action, so the sum is the part of the variance (of an action in [−1, 1]) that lies above the cutoff: a sine of
//! amplitude A above it has A²/2. There is no window: what leaks over from slow motion is small beside chatter.

use rustfft::{FftPlanner, num_complex::Complex};

use crate::vehicle::ROTORS;

/// Steps left out at the beginning: in this second of a flight at 100 Hz a guide hands over and the start dies away.
pub const SETTLING_STEPS: usize = 100;
/// An episode of fewer steps has no figure: half a second after the settling is the least that resolves 5 Hz.
pub const LEAST_STEPS: usize = 150;
/// Above this frequency, Hz, an action is restless.
pub const CUTOFF_HZ: f64 = 5.0;

/// Power above 5 Hz of an episode's actions, mean over the motors, from its control period in s; none for an episode
/// shorter than [`LEAST_STEPS`].
pub fn power_above_5hz(actions: &[[f64; ROTORS]], dt_s: f64) -> Option<f64> {
    if actions.len() < LEAST_STEPS {
        return None;
    }
    let settled = &actions[SETTLING_STEPS..];
    let n = settled.len();
    let fft = FftPlanner::new().plan_fft_forward(n);
    // Bin k is the frequency k/(n dt); rounding must not carry a bin at the cutoff above it.
    let cutoff_bin = CUTOFF_HZ * n as f64 * dt_s * (1.0 + 1e-9);
    let power = |motor: usize| {
        let mean = settled.iter().map(|a| a[motor]).sum::<f64>() / n as f64;
        let mut bins: Vec<Complex<f64>> =
            settled.iter().map(|a| Complex::new(a[motor] - mean, 0.0)).collect();
        fft.process(&mut bins);
        let above = (1..=n / 2).filter(|&k| k as f64 > cutoff_bin);
        // Every frequency but the highest of an even length has a mirror image.
        let sides = |k: usize| if 2 * k == n { 1.0 } else { 2.0 };
        above.map(|k| sides(k) * bins[k].norm_sqr()).sum::<f64>() / (n as f64).powi(2)
    };
    Some((0..ROTORS).map(power).sum::<f64>() / ROTORS as f64)
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    const DT_S: f64 = 0.01;

    fn flight(steps: usize, signal: impl Fn(f64) -> f64) -> Vec<[f64; ROTORS]> {
        (0..steps).map(|k| [signal(k as f64 * DT_S); ROTORS]).collect()
    }

    fn sine(amplitude: f64, frequency_hz: f64) -> impl Fn(f64) -> f64 {
        move |time_s| 0.3 + amplitude * (TAU * frequency_hz * time_s).sin()
    }

    #[test]
    fn a_fast_sine_has_half_its_squared_amplitude_and_a_slow_one_nothing() {
        for steps in [300, 500, 2000] {
            let fast = power_above_5hz(&flight(steps, sine(0.4, 10.0)), DT_S).unwrap();
            assert!((fast - 0.08).abs() < 1e-12, "{steps} steps: {fast}");
            let slow = power_above_5hz(&flight(steps, sine(0.4, 2.0)), DT_S).unwrap();
            assert!(slow < 1e-12, "{steps} steps: {slow}");
            // At the cutoff is not above it.
            let at = power_above_5hz(&flight(steps, sine(0.4, 5.0)), DT_S).unwrap();
            assert!(at < 1e-12, "{steps} steps: {at}");
        }
        // A length that no period divides: a little leaks, no more.
        let odd = power_above_5hz(&flight(377, sine(0.4, 10.0)), DT_S).unwrap();
        assert!((odd - 0.08).abs() < 0.004, "{odd}");
        let slow = power_above_5hz(&flight(377, sine(0.4, 2.0)), DT_S).unwrap();
        assert!(slow < 0.004, "{slow}");
    }

    #[test]
    fn the_power_is_a_mean_over_the_motors_and_a_part_of_the_variance() {
        let mut one_motor = flight(500, |_| 0.0);
        one_motor.iter_mut().enumerate().for_each(|(k, a)| a[2] = sine(0.4, 10.0)(k as f64 * DT_S));
        let power = power_above_5hz(&one_motor, DT_S).unwrap();
        assert!((power - 0.02).abs() < 1e-12, "{power}");
        // The highest frequency there is: ±0.5 from step to step, all of it above 5 Hz and counted once.
        let alternating = flight(500, |t| 0.5 * (TAU * 50.0 * t).cos());
        let power = power_above_5hz(&alternating, DT_S).unwrap();
        assert!((power - 0.25).abs() < 1e-12, "{power}");
    }

    #[test]
    fn the_first_second_and_short_flights_do_not_count() {
        let mut settling = flight(400, |_| 0.1);
        settling[..SETTLING_STEPS].iter_mut().for_each(|a| *a = [1.0, -1.0, 1.0, -1.0]);
        settling[10] = [-1.0; ROTORS];
        assert!(power_above_5hz(&settling, DT_S).unwrap() < 1e-20);
        assert_eq!(power_above_5hz(&settling[..LEAST_STEPS - 1], DT_S), None);
        assert!(power_above_5hz(&settling[..LEAST_STEPS], DT_S).is_some());
        assert_eq!(power_above_5hz(&[], DT_S), None);
    }
}
