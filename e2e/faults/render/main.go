// Command render writes the results of the fault matrix into the table of
// docs/reliability.md. make faults and go generate run it in e2e/faults.
package main

import (
	"fmt"
	"os"

	"github.com/outboxstream/streamer/e2e/faults/matrix"
)

const (
	resultsFile = "results.json"
	page        = "../../docs/reliability.md"
)

func main() {
	if err := render(); err != nil {
		fmt.Fprintln(os.Stderr, "render the fault matrix:", err)
		os.Exit(1)
	}
}

func render() error {
	results, err := matrix.Load(resultsFile)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(page)
	if err != nil {
		return fmt.Errorf("read page: %w", err)
	}
	text, err := matrix.Insert(string(content), matrix.Tables(results))
	if err != nil {
		return err
	}
	if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}
