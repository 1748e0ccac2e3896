// Command render writes the results of the fault matrix into the tables of
// docs/reliability.md and docs/kafka-versions.md. make faults, make kafka and
// go generate run it in e2e/faults.
package main

import (
	"fmt"
	"os"

	"github.com/outboxstream/streamer/e2e/faults/matrix"
)

func main() {
	for name, page := range matrix.Pages {
		if err := render(name, page); err != nil {
			fmt.Fprintf(os.Stderr, "render the fault matrix into %s: %v\n", name, err)
			os.Exit(1)
		}
	}
}

func render(name string, page matrix.Page) error {
	results, err := matrix.Load(page.Results)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read page: %w", err)
	}
	text, err := matrix.Insert(string(content), page.Render(results))
	if err != nil {
		return err
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}
