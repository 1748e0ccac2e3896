package ops

import (
	"context"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/outboxstream/streamer/internal/pipeline"
)

// NotifySupervisor tells systemd that the process has started, what it is
// doing, and, at the interval that WatchdogSec requires, that it is alive. It
// returns when ctx is done, after it has said that the process is stopping.
// Without systemd (NOTIFY_SOCKET) it does nothing.
func NotifySupervisor(ctx context.Context, status func() pipeline.Status) {
	if told, err := daemon.SdNotify(false, daemon.SdNotifyReady); !told || err != nil {
		return
	}
	every := time.Second
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err == nil && watchdog > 0 {
		every = min(every, watchdog/3)
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	last := ""
	for {
		now := describe(status())
		if now != last {
			_, _ = daemon.SdNotify(false, "STATUS="+now) // repeated a moment later
			last = now
		}
		if watchdog > 0 {
			_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
			return
		case <-ticker.C:
		}
	}
}

// describe renders a status on one line.
func describe(s pipeline.Status) string {
	text := string(s.Phase)
	if s.Detail != "" {
		text += ": " + s.Detail
	}
	return strings.ReplaceAll(text, "\n", "; ")
}
