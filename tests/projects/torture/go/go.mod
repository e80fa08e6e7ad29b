module example.org/torture

go 1.25.0
