package main

import (
	"fmt"
	"math"
	"strconv"
)

// format writes a value in one of Grafana's units.
func format(value float64, unit string) string {
	switch unit {
	case "bytes":
		return scaled(value, 1024, []string{" B", " KiB", " MiB", " GiB", " TiB"})
	case "s":
		switch {
		case value == 0:
			return "0 s"
		case value < 1:
			return trim(value*1000) + " ms"
		case value < 120:
			return trim(value) + " s"
		}
		return trim(value/60) + " min"
	case "eps":
		return scaled(value, 1000, []string{"", " k", " M"}) + "/s"
	}
	return scaled(value, 1000, []string{"", " k", " M"})
}

func scaled(value, step float64, suffixes []string) string {
	i := 0
	for math.Abs(value) >= step && i < len(suffixes)-1 {
		value /= step
		i++
	}
	return trim(value) + suffixes[i]
}

// trim writes at most three digits, unless there are more before the point.
func trim(value float64) string {
	digits := max(0, 2-int(math.Log10(max(1, math.Abs(value)))))
	text := strconv.FormatFloat(value, 'f', digits, 64)
	short, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return text
	}
	return fmt.Sprint(short)
}
