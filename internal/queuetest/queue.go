// Package queuetest is the promise of every queue, as a test suite: sqsqueue
// (SQS) and boltqueue (embedded) both pass it.
//
// Test support: imported by _test.go files only.
package queuetest

import (
	"context"
	"time"

	"eventhooks/internal/hook"
)

// Queue is everything that the system together asks of a queue. Functions only
// send: Lambda receives for them. Receive, Delete and Release are for the local
// pollers and for dead letters.
//
// Delivery is at least once, in no promised order. Every method may be called
// concurrently.
type Queue interface {
	// Send puts the messages on the queue, in batches of at most
	// hook.MaxBatch messages and hook.MaxMessageBytes. It returns the indexes
	// of the messages that are not on the queue, and why; nil when all are.
	// What is on the queue survives the process. A message that can never be
	// sent (too large, a character SQS refuses, a delay out of range) is among
	// the failed, and the others are still sent.
	Send(ctx context.Context, msgs []hook.Message) (failed []int, err error)
	// Receive returns up to max (1 to 10) visible messages and hides them for
	// visibility (0 to 12 h), waiting up to wait (at most 20 s) for the first.
	// A message received more often than the queue's maximum goes to its
	// dead-letter queue instead.
	Receive(ctx context.Context, max int, visibility, wait time.Duration) ([]hook.Received, error)
	// Delete removes a received message. Deleting twice is harmless.
	Delete(ctx context.Context, receipt string) error
	// Release makes a received message visible again after delay.
	Release(ctx context.Context, receipt string, delay time.Duration) error
}
