package main

import (
	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/internal/config"
)

type configCommand struct {
	Schema bool `xor:"form" help:"Print the JSON Schema of the configuration file instead, for editors to complete and check keys."`
	JSON   bool `xor:"form" help:"Print JSON instead of YAML."`
}

// Help is shown by streamer config --help.
func (configCommand) Help() string {
	return `Checks the configuration and prints the effective values with their origins. Secrets
are masked. If anything is wrong, all problems are listed and the exit code is 2.

Examples:
  streamer config --config streamer.yaml
  streamer config --schema > streamer.schema.json`
}

// Run is the command.
func (command configCommand) Run(load site.Configuration, std console.Streams) error {
	if command.Schema {
		_, err := std.Out.Write(config.Schema())
		return err
	}
	loaded, err := load()
	if err != nil {
		return err
	}
	format := config.FormatYAML
	if command.JSON {
		format = config.FormatJSON
	}
	return config.WriteEffective(std.Out, loaded, format)
}
