//! Newton's method with halved steps, for the small convex losses of the domain.
//!
//! Owns the iteration and the linear solver. Refuses to know what is fitted.

/// Newton steps after which the fit is taken as it is.
const MOST: usize = 100;

/// The gradient and the Hessian of a loss at a point.
pub(super) type Derivatives = (Vec<f64>, Vec<Vec<f64>>);

/// A minimum of a convex loss from `start` on. A step is halved until it lowers the loss.
pub(super) fn minimise(
    start: Vec<f64>,
    loss: impl Fn(&[f64]) -> f64,
    derivatives: impl Fn(&[f64]) -> Derivatives,
) -> Vec<f64> {
    let mut at = start;
    let mut least = loss(&at);
    for _ in 0..MOST {
        let (gradient, hessian) = derivatives(&at);
        let step = solve(hessian, gradient);
        // Far from the optimum a whole step may overshoot.
        let mut scale = 1.0;
        let (next, lower) = loop {
            let next: Vec<f64> = at.iter().zip(&step).map(|(x, s)| x - scale * s).collect();
            let lower = loss(&next);
            if lower <= least || scale < 1e-6 {
                break (next, lower);
            }
            scale /= 2.0;
        };
        let moved = step.iter().fold(0.0f64, |most, s| most.max((scale * s).abs()));
        (at, least) = (next, lower);
        if moved < 1e-12 {
            break;
        }
    }
    at
}

/// Solves a symmetric positive definite system by Gaussian elimination with pivoting.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for k in 0..n {
        let pivot = (k..n).max_by(|i, j| a[*i][k].abs().total_cmp(&a[*j][k].abs())).unwrap_or(k);
        a.swap(k, pivot);
        b.swap(k, pivot);
        if a[k][k].abs() < 1e-300 {
            continue;
        }
        for i in k + 1..n {
            let factor = a[i][k] / a[k][k];
            let (above, below) = a.split_at_mut(i);
            below[0].iter_mut().zip(&above[k]).skip(k).for_each(|(x, y)| *x -= factor * y);
            b[i] -= factor * b[k];
        }
    }
    for k in (0..n).rev() {
        let rest: f64 = (k + 1..n).map(|j| a[k][j] * b[j]).sum();
        b[k] = if a[k][k].abs() < 1e-300 { 0.0 } else { (b[k] - rest) / a[k][k] };
    }
    b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quadratic_is_solved_in_one_step_and_a_steep_start_is_halved() {
        let at = minimise(
            vec![5.0, -3.0],
            |x| (x[0] - 1.0).powi(2) + 2.0 * (x[1] + 2.0).powi(2),
            |x| (vec![2.0 * (x[0] - 1.0), 4.0 * (x[1] + 2.0)], vec![vec![2.0, 0.0], vec![0.0, 4.0]]),
        );
        assert!((at[0] - 1.0).abs() < 1e-12 && (at[1] + 2.0).abs() < 1e-12);
        // ln cosh: a whole Newton step from 3 diverges.
        let at =
            minimise(vec![3.0], |x| x[0].cosh().ln(), |x| (vec![x[0].tanh()], vec![vec![1.0 / x[0].cosh().powi(2)]]));
        assert!(at[0].abs() < 1e-9, "{at:?}");
    }
}
