package report

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Write writes report.md, report.json and the plots into a folder.
func (r *Report) Write(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("create the folder of the report: %w", err)
	}
	text, err := json.MarshalIndent(struct {
		*Report
		Targets []Target `json:"targets"`
	}{r, r.Targets()}, "", "  ")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	files := map[string]string{"report.md": r.Markdown(), "report.json": string(text) + "\n"}
	for _, p := range r.Plots() {
		files[p.File] = p.SVG
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	return nil
}
