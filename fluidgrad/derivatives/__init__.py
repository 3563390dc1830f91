"""Using derivatives: values with gradients, linearizations and their checks, maps of sensitivity, error estimates."""
