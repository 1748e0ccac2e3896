package rig

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/outboxstream/streamer/bench/internal/contender"
)

// profile writes a CPU profile of a contender, over the given time from now on,
// into the folder for profiles. wait returns when it is written. Without a
// folder, or where the contender serves none, nothing is done.
func (r *Rig) profile(ctx context.Context, c contender.Contender, name string, duration time.Duration) (wait func() error) {
	s, ok := c.(*contender.Streamer)
	if r.options.Profiles == "" || !ok {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() {
		seconds := max(1, int(duration.Seconds())-1) // it ends while there is still load
		done <- download(ctx, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", s.URL(), seconds),
			filepath.Join(r.options.Profiles, c.Name()+"-"+name+".pprof"))
	}()
	return func() error { return <-done }
}

func download(ctx context.Context, from, to string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s", response.Status)
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o750)
	}
	if err == nil {
		err = os.WriteFile(to, content, 0o600)
	}
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	return nil
}
