//! From a model's files to its decoder on a device.

use super::decoder::Decoder;
use super::device::weights_dtype;
use crate::model::error::Error;
use crate::model::language_model::LanguageModel;
use crate::model::tune::Tune;
use candle_core::Device;

impl LanguageModel {
    /// Loads the decoder in the type in which the device computes.
    ///
    /// # Errors
    /// When a tensor is missing or has the wrong shape.
    pub fn decoder(&self, device: &Device, tune: &Tune) -> Result<Decoder, Error> {
        Decoder::new(&self.config, &mut self.weights(device, weights_dtype(device))?, tune)
    }
}
