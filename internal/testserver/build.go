package testserver

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Build compiles a program as its users do: see the Makefile. folder is one of the
// program's module, and source its package. It is built without VCS information,
// which git refuses to provide in a folder of another user. All tests build with
// the same settings, so that dependencies are compiled once.
func Build(ctx context.Context, folder, source, output string, flags ...string) error {
	arguments := append([]string{"build", "-trimpath", "-buildvcs=false", "-o", output}, flags...)
	cmd := exec.CommandContext(ctx, cmp.Or(os.Getenv("GO"), "go"), append(arguments, source)...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := RunProcess(cmd); err != nil {
		return fmt.Errorf("build %s: %w\n%s", source, err, strings.TrimSpace(said.String()))
	}
	return nil
}
