"""Models over films in anybody's folder or table: reading them, the arguments, tables written in parts."""
