module example.org/ticker

go 1.25.0
