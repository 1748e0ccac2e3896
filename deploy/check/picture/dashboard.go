package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
)

// dashboard holds the parts of Grafana's format that are used here.
type dashboard struct {
	Title  string
	Panels []panel
}

type panel struct {
	Type, Title string
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct{ Defaults defaults }
	Targets     []struct {
		Expr, LegendFormat string
		Instant            bool // only the value at the end
	}
	Options struct{ TextMode, ColorMode string }
}

type defaults struct {
	Unit, NoValue string
	Decimals      *int
	Thresholds    struct {
		Steps []struct {
			Color string
			Value *float64 // null: from the beginning
		}
	}
	Mappings []struct {
		Options map[string]struct{ Text, Color string }
	}
}

func readDashboard(path string) (dashboard, error) {
	var d dashboard
	text, err := os.ReadFile(path)
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return d, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// column and row are the cells of Grafana's grid, in pixels.
const column, row, gap = 50, 28, 6

func (d dashboard) draw(ctx context.Context, out io.Writer, from *source) error {
	height := 0
	for _, p := range d.Panels {
		height = max(height, (p.GridPos.Y+p.GridPos.H)*row)
	}
	s := newSVG(24*column, height, "#f4f5f5")
	for _, p := range d.Panels {
		lines, err := p.lines(ctx, from)
		if err != nil {
			return fmt.Errorf("panel %q: %w", p.Title, err)
		}
		p.draw(s, lines, from)
	}
	return s.write(out)
}

// line is a series with its name in the legend.
type line struct {
	name string
	series
}

var label = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)

func (p panel) lines(ctx context.Context, from *source) (lines []line, err error) {
	for _, target := range p.Targets {
		found, err := from.query(ctx, target.Expr, target.Instant)
		if err != nil {
			return nil, err
		}
		for _, s := range found {
			name := label.ReplaceAllStringFunc(target.LegendFormat, func(text string) string { return s.Metric[label.FindStringSubmatch(text)[1]] })
			lines = append(lines, line{name, s})
		}
	}
	return lines, nil
}

func (p panel) draw(s *svg, lines []line, from *source) {
	x, y := float64(p.GridPos.X*column+gap/2), float64(p.GridPos.Y*row+gap/2)
	w, h := float64(p.GridPos.W*column-gap), float64(p.GridPos.H*row-gap)
	s.rect(x, y, w, h, "#ffffff")
	s.text(x+10, y+18, 12, "start", "#24292e", p.Title)
	if p.Type == "stat" {
		value, color := p.stat(lines)
		s.text(x+w/2, y+h/2+20, 24, "middle", color, value)
		return
	}
	chart{
		unit: p.FieldConfig.Defaults.Unit, lines: lines,
		from: float64(from.from.Unix()), to: float64(from.to.Unix()),
	}.draw(s, x+10, y+28, w-20, h-36)
}

// colors are those that a dashboard names.
var colors = map[string]string{"green": "#1a7f37", "orange": "#bc4c00", "red": "#cf222e", "": "#24292e"}

// stat returns the newest value of the first line that has one.
func (p panel) stat(lines []line) (text, color string) {
	about := p.FieldConfig.Defaults
	for _, l := range lines {
		value, known := l.last()
		if !known {
			continue
		}
		if p.Options.TextMode == "name" {
			return l.name, colors[""]
		}
		for _, mapping := range about.Mappings {
			if m, ok := mapping.Options[fmt.Sprint(value)]; ok {
				return m.Text, colors[m.Color]
			}
		}
		color := ""
		for _, step := range about.Thresholds.Steps {
			if step.Value == nil || value >= *step.Value {
				color = step.Color
			}
		}
		if about.Decimals != nil {
			scale := math.Pow10(*about.Decimals)
			value = math.Round(value*scale) / scale
		}
		return format(value, about.Unit), colors[color]
	}
	if about.NoValue != "" {
		return about.NoValue, colors["green"]
	}
	return "no data", "#8c959f"
}
