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
// Delivery is at least once, in no promised order: now and then a message comes
// twice, even while it is in flight or after it was deleted. Every method may be
// called concurrently. Times may be rounded up to whole seconds, never down.
type Queue interface {
	// Send puts the messages on the queue, in batches of at most
	// hook.MaxBatch messages and hook.MaxMessageBytes. It returns the indexes,
	// rising, of the messages that are not known to be on the queue, and why;
	// nil when all are. What is on the queue survives the process. A message
	// that can never be sent (hook.Message.Check) is among the failed, and the
	// others are still sent.
	Send(ctx context.Context, msgs []hook.Message) (failed []int, err error)
	// Receive returns up to max (1 to 10) visible messages and hides them for
	// visibility (0 to 12 h), waiting up to wait (at most 20 s) for the first.
	// Other numbers are an error, and so is the end of ctx while it waits. It
	// may return fewer than there are, and with wait 0 none at all. A message received more often than the queue's
	// maximum goes to its dead-letter queue instead, whenever someone receives.
	Receive(ctx context.Context, max int, visibility, wait time.Duration) ([]hook.Received, error)
	// Delete removes a received message. Deleting twice is harmless. With an
	// old receipt, of a message that was received anew since, it is no error,
	// and whether the message goes is not promised. A receipt that never was
	// one is an error.
	Delete(ctx context.Context, receipt string) error
	// Release makes a received message visible again after delay (0 to 12 h).
	// It is for messages in flight: of another one, or with an old receipt,
	// neither an effect nor its absence is promised, nor an error.
	Release(ctx context.Context, receipt string, delay time.Duration) error
}

// BatchDeleter is what every queue can also do: Delete for many receipts,
// cheaper. It returns the indexes, rising, of those that failed, and why; nil
// when none did.
type BatchDeleter interface {
	DeleteBatch(ctx context.Context, receipts []string) (failed []int, err error)
}
