package contender

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/outboxstream/streamer/internal/testserver"
)

const module = "github.com/outboxstream/streamer/"

// Build builds the programs as their users do.
func (p Programs) Build(ctx context.Context) error {
	for name, source := range map[string]string{"streamer": "cmd/streamer", "baseline": "bench/baseline", "raw": "bench/raw"} {
		if err := testserver.Build(ctx, "", module+source, p.Of(name)); err != nil {
			return err
		}
	}
	return nil
}

// BuildBefore builds the streamer of an earlier commit of the repository that
// contains the working folder.
func (p Programs) BuildBefore(ctx context.Context, commit string) error {
	folder := p.Of("tree-before")
	if err := run(exec.CommandContext(ctx, "git", "worktree", "add", "--quiet", "--force", "--detach", folder, commit)); err != nil {
		return fmt.Errorf("take out commit %s: %w", commit, err)
	}
	if err := testserver.Build(ctx, folder, "./cmd/streamer", p.Of(Before("").program())); err != nil {
		return fmt.Errorf("commit %s: %w", commit, err)
	}
	if err := run(exec.CommandContext(ctx, "git", "worktree", "remove", "--force", folder)); err != nil {
		return fmt.Errorf("remove the files of commit %s: %w", commit, err)
	}
	return nil
}

// run includes the command's output in the error.
func run(cmd *exec.Cmd) error {
	_, err := output(cmd)
	return err
}

// output returns what the command prints, even if it fails.
func output(cmd *exec.Cmd) (string, error) {
	var text strings.Builder
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := testserver.RunProcess(cmd); err != nil {
		return text.String(), fmt.Errorf("%w\n%s", err, strings.TrimSpace(text.String()))
	}
	return text.String(), nil
}

// environment is this process's environment without the variables for another
// streamer or database.
func environment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "PG") && !strings.HasPrefix(variable, "STREAMER_") {
			kept = append(kept, variable)
		}
	}
	return kept
}
