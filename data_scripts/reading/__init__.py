"""What loaders share: tables, labels, ages, views, report sections."""
