package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// points is how many values of a series are drawn.
const points = 240

// source queries Prometheus for a period of time.
type source struct {
	url      string
	from, to time.Time
}

// series is the data of one line of a panel.
type series struct {
	Metric map[string]string
	Values [][2]any // seconds, and a number as text
}

// sample is a value at a time.
type sample struct{ at, value float64 }

func (s series) samples() []sample {
	var all []sample
	for _, v := range s.Values {
		at, _ := v[0].(float64)
		text, _ := v[1].(string)
		if value, err := strconv.ParseFloat(text, 64); err == nil && value == value { // no NaN
			all = append(all, sample{at, value})
		}
	}
	return all
}

// last returns the newest value.
func (s series) last() (value float64, known bool) {
	all := s.samples()
	if len(all) == 0 {
		return 0, false
	}
	return all[len(all)-1].value, true
}

// query evaluates an expression of a dashboard, with Grafana's variables, over
// the whole period or at its end.
func (s *source) query(ctx context.Context, expression string, instant bool) ([]series, error) {
	span, from := s.to.Sub(s.from), s.from
	if instant {
		from = s.to
	}
	expression = strings.NewReplacer("$__range", span.String(), "$__rate_interval", "20s").Replace(expression)
	ask := s.url + "/api/v1/query_range?" + url.Values{
		"query": {expression}, "start": {seconds(from)}, "end": {seconds(s.to)}, "step": {strconv.FormatFloat(span.Seconds()/points, 'f', 3, 64)},
	}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, ask, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var answer struct {
		Error string
		Data  struct{ Result []series }
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.Error != "" {
		return nil, fmt.Errorf("query %q: %s %w", expression, answer.Error, err)
	}
	return answer.Data.Result, nil
}

func seconds(t time.Time) string {
	return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64)
}
