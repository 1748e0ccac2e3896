//go:build !linux

package testserver

import "syscall"

// Other systems have no death signal: there a server survives when this process
// is killed.
func setDeathSignal(*syscall.SysProcAttr, syscall.Signal) {}
