//! Norms of the packed decoder.

use tiebreak_kernels::leaf;

/// A norm: its factors, whether it subtracts the mean, and LayerNorm's bias.
pub(super) struct PackedNorm {
    pub(super) gamma: Vec<f32>,
    pub(super) centred: bool,
    pub(super) bias: Option<Vec<f32>>,
}

impl PackedNorm {
    /// Over rows as long as its factors.
    pub(super) fn of(&self, x: &[f32], eps: f32) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        if !self.centred {
            leaf::rms_norm(x, &self.gamma, eps, &mut y);
            return y;
        }
        let mut centred = x.to_vec();
        leaf::centre(&mut centred, self.gamma.len());
        leaf::rms_norm(&centred, &self.gamma, eps, &mut y);
        if let Some(bias) = &self.bias {
            leaf::add_bias(&mut y, bias.len(), 0, bias);
        }
        y
    }
}
