"""The functions behind `import passerby` that are not found elsewhere under the same name."""
