package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/outboxstream/streamer/internal/testserver"
)

// A broker's separate disk is a file system in memory. Mounting one needs root.

// mount gives a new broker the disk of [Options].DiskBytes.
func (c *Cluster) mount(ctx context.Context, b *broker) error {
	if c.options.DiskBytes == 0 {
		return nil
	}
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		return fmt.Errorf("mount a disk for broker %d: only root on Linux may do that: %w", b.node, testserver.ErrMissing)
	}
	c.unmountAbandoned(ctx)
	if err := os.MkdirAll(b.dataDir(), 0o700); err != nil {
		return fmt.Errorf("make folder for the disk of broker %d: %w", b.node, err)
	}
	output, err := run(ctx, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", c.options.DiskBytes), "streamer-test", b.dataDir())
	if err != nil {
		// A container may forbid mounting even to root.
		return fmt.Errorf("mount a disk for broker %d: %w: %w: %s", b.node, testserver.ErrMissing, err, output)
	}
	b.mounted = true
	return nil
}

// unmountAbandoned removes the disks of processes that were killed. When this
// process's folder was created, the locks of their folders were removed. It
// does what it can.
func (c *Cluster) unmountAbandoned(ctx context.Context) {
	disks, _ := filepath.Glob(filepath.Join(filepath.Dir(c.folder.Path), "streamer-test-kafka-*", "broker-*", "data"))
	for _, disk := range disks {
		folder := filepath.Dir(filepath.Dir(disk))
		if _, err := os.Stat(filepath.Join(folder, "lock")); !os.IsNotExist(err) {
			continue
		}
		_, _ = run(ctx, "umount", disk)
		_ = os.RemoveAll(folder)
	}
}

// unmount removes the disk with everything on it.
func (b *broker) unmount() error {
	if !b.mounted {
		return nil
	}
	output, err := run(context.Background(), "umount", b.dataDir())
	if err != nil {
		return fmt.Errorf("unmount the disk of broker %d: %w: %s", b.node, err, output)
	}
	b.mounted = false
	return nil
}

// FillDisk leaves nothing free on the disk of broker i, which must have its own
// disk: see [Options].DiskBytes.
func (c *Cluster) FillDisk(i int) error {
	ballast, err := c.ballast(i)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(ballast, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("fill disk of broker %d: %w", i, err)
	}
	defer file.Close()
	if _, err := io.Copy(file, zeros{}); !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("fill disk of broker %d: %w", i, err)
	}
	return nil
}

// FreeDisk reverts FillDisk.
func (c *Cluster) FreeDisk(i int) error {
	ballast, err := c.ballast(i)
	if err != nil {
		return err
	}
	if err := os.Remove(ballast); err != nil {
		return fmt.Errorf("free disk of broker %d: %w", i, err)
	}
	return nil
}

func (c *Cluster) ballast(i int) (string, error) {
	b, err := c.broker(i)
	if err != nil {
		return "", err
	}
	if !b.mounted {
		return "", fmt.Errorf("broker %d has no disk of its own", i)
	}
	return filepath.Join(b.dataDir(), "ballast"), nil
}

// zeros is an endless reader of zeros.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
