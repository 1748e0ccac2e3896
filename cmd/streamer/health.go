package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/outboxstream/streamer/cmd/streamer/internal/console"
	"github.com/outboxstream/streamer/cmd/streamer/internal/site"
	"github.com/outboxstream/streamer/cmd/streamer/internal/status"
)

type healthCommand struct{}

// Help is shown by streamer health --help.
func (healthCommand) Help() string {
	return `Asks the streamer on this machine, at http.listen, whether it is streaming or
standing by: exit code 0 if it is, 1 if not. Meant for the health check of a container.

Example:
  streamer health --config streamer.yaml`
}

// Run is the command.
func (healthCommand) Run(ctx context.Context, load site.Configuration, std console.Streams) error {
	loaded, err := load()
	if err != nil {
		return err
	}
	health, err := status.AskHealth(ctx, loaded.Config.HTTP.Listen)
	if err != nil {
		return err
	}
	fmt.Fprintln(std.Out, status.DescribeHealth(health))
	if !health.Ready {
		return errors.New("not ready")
	}
	return nil
}
