//! candle lives here and only here: models, tokenizers, templates, sampling, log-probs, losses, the optimizer, recipes.
