module example.org/agency/agent

go 1.25.0
