//! What a user of the evaluation relies on.

use proptest::prelude::*;
use spikewing_quad::{
    Observation, Reward, State, Vehicle,
    protocol::{Evaluation, Pilot, Protocol, Summary, WarmStart},
    reward::OrientationTerm,
};

struct Constant(f32);
impl Pilot for Constant {
    fn reset(&mut self, _: &Vehicle, _: &State) {}
    fn act(&mut self, _: &Observation, _: usize) -> [f32; 4] {
        [self.0; 4]
    }
}

#[test]
fn the_same_seed_flies_the_same_bits() {
    let mut evaluation = Evaluation::paper(5, 7).unwrap();
    evaluation.protocol = Protocol::Recovery;
    let hover = Vehicle::crazyflie().unwrap().hover_action() as f32;
    let first = evaluation.run(&mut Constant(hover));
    assert_eq!(first, evaluation.run(&mut Constant(hover)));
    evaluation.seed = 8;
    assert_ne!(first, evaluation.run(&mut Constant(hover)));
}

#[test]
fn hovering_open_loop_without_disturbance_stays_and_earns_almost_all() {
    let evaluation = Evaluation::paper(1, 1).unwrap();
    let hover = evaluation.vehicle.hover_action() as f32;
    let result = evaluation.run(&mut Constant(hover));
    assert!(result[0].completed);
    let summary = Summary::of(&result);
    assert!((495.0..=500.0).contains(&summary.return_mean), "{summary:?}");
    assert_eq!(summary.completed_share, 1.0);
}

#[test]
fn falling_ends_the_episode_at_the_box() {
    let evaluation = Evaluation::paper(1, 1).unwrap();
    let result = evaluation.run(&mut Constant(-1.0))[0];
    assert!(!result.completed);
    // 0.6 m of fall from rest, the rotors slowing down meanwhile.
    assert!((30..60).contains(&result.length), "{}", result.length);
    assert_eq!(Summary::of(&[result]).return_completed_mean, None);
}

#[test]
fn a_pilot_that_answers_nan_is_scored_not_panicked_over() {
    let evaluation = Evaluation::paper(1, 1).unwrap();
    assert!(!evaluation.run(&mut Constant(f32::NAN))[0].completed);
}

#[test]
fn the_guide_flies_the_warm_up_only() {
    let evaluation = Evaluation::paper(1, 1).unwrap();
    let hover = evaluation.vehicle.hover_action() as f32;
    let mut pilot = WarmStart { guide: Constant(hover), student: Constant(-1.0), steps: 50 };
    let warm = evaluation.run(&mut pilot)[0];
    let cold = evaluation.run(&mut Constant(-1.0))[0];
    assert_eq!(warm.length, cold.length + 50);
}

#[test]
fn the_curriculum_runs_from_start_to_end_in_six_stages() {
    assert_eq!(Reward::stage(0), Reward::start());
    assert_eq!(Reward::stage(5), Reward::end());
    assert_eq!(Reward::stage(9), Reward::end());
    let positions: Vec<f64> = (0..6).map(|s| Reward::stage(s).coefficients.position).collect();
    assert!(positions.windows(2).all(|w| (w[1] - w[0] - 0.5).abs() < 1e-12), "{positions:?}");
}

#[test]
fn vehicles_that_cannot_fly_are_refused_by_field() {
    let crazyflie = include_str!("../../../params/vehicles/crazyflie.yaml");
    for (from, to, word) in [
        ("mass_kg: 0.027", "mass_kg: -1.0", "mass_kg"),
        ("mass_kg: 0.027", "mass_kg: .nan", "mass_kg"),
        ("mass_kg: 0.027", "mass_kg: 0.27", "cannot hover"),
        ("mass_kg", "mas_kg", "mas_kg"),
        ("rotor_range: [0.0, 1.0]", "rotor_range: [1.0, 0.0]", "rotor_range"),
    ] {
        let error = Vehicle::from_yaml(&crazyflie.replace(from, to), "test.yaml").unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("test.yaml"), "{error}");
    }
    assert!(Vehicle::find("crazyfly").unwrap_err().to_string().contains("crazyflie"));
    assert!(Vehicle::find("x500").unwrap().thrust_to_weight() > 1.5);
}

proptest! {
    #[test]
    fn a_reward_from_the_observation_is_that_from_the_state(
        p in prop::array::uniform3(-0.6_f64..0.6), v in prop::array::uniform3(-3.0_f64..3.0),
        w in prop::array::uniform3(-9.0_f64..9.0), axis in prop::array::uniform3(-2.0_f64..2.0),
        a in prop::array::uniform4(-1.0_f32..1.0),
    ) {
        let vehicle = Vehicle::crazyflie().unwrap();
        let mut state = State::hover(&vehicle, p.into());
        state.velocity = v.into();
        state.body_rates = w.into();
        state.orientation = nalgebra::UnitQuaternion::from_scaled_axis(axis.into());
        let origin = nalgebra::Vector3::zeros();
        for reward in [Reward::start(), Reward::end(), Reward::authors_code(),
                       Reward::start().with_orientation(OrientationTerm::Full)] {
            let of_state = reward.of_state(&state, &origin, &a.map(f64::from));
            let of_observation = reward.of_observation(&state.observation(&origin), &a);
            // acos near 1 turns the rounding of f32 (6e-8) into its square root.
            prop_assert!((of_state - of_observation).abs() < 1e-3, "{of_state} {of_observation}");
        }
    }
}
