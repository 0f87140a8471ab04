package local

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"eventhooks/internal/hook"
	"eventhooks/internal/lambdaevent"
)

// receiveWait is how long a poller asks for messages at a time.
const receiveWait = 10 * time.Second

// poll hands a queue's messages to a function, as Lambda's event source mapping
// does: in batches, several at once, and deleting what was handled.
func (s *System) poll(ctx context.Context, q queue, concurrency int, function func(context.Context, json.RawMessage) (any, error)) {
	places := make(chan struct{}, concurrency)
	s.work.Go(func() {
		for {
			select {
			case places <- struct{}{}:
			case <-ctx.Done():
				return
			}
			// While this process works on a message nobody else may see it;
			// Visibility begins when it gives up.
			msgs, err := q.Receive(ctx, batchSize, functionTimeout+s.o.Visibility, receiveWait)
			if ctx.Err() != nil {
				s.giveBack(q, msgs)
				return
			}
			if err != nil {
				s.o.Log.Error("receive messages", slog.Any("err", err))
				pause(ctx, time.Second)
			}
			if len(msgs) == 0 {
				<-places
				continue
			}
			s.work.Go(func() {
				defer func() { <-places }()
				s.invoke(ctx, q, msgs, function)
			})
		}
	})
}

// invoke runs the function on one batch. It outlives ctx: a batch that was
// begun is finished.
func (s *System) invoke(ctx context.Context, q queue, msgs []hook.Received, function func(context.Context, json.RawMessage) (any, error)) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), functionTimeout)
	defer cancel()
	failed := map[string]bool{}
	if err := s.call(ctx, msgs, function, failed); err != nil {
		s.o.Log.Error("deliver function", slog.Any("err", err))
		for _, m := range msgs {
			failed[m.ID] = true
		}
	}
	var done []string
	for _, m := range msgs {
		if !failed[m.ID] {
			done = append(done, m.Receipt)
			continue
		}
		if err := q.Release(ctx, m.Receipt, s.o.Visibility); err != nil {
			s.o.Log.Warn("release message", slog.Any("err", err))
		}
	}
	if left, err := q.DeleteBatch(ctx, done); err != nil || len(left) > 0 {
		// They come again, and are found to be done.
		s.o.Log.Warn("delete messages", slog.Int("left", len(left)), slog.Any("err", err))
	}
}

func (s *System) call(ctx context.Context, msgs []hook.Received, function func(context.Context, json.RawMessage) (any, error), failed map[string]bool) error {
	raw, err := json.Marshal(lambdaevent.SQSEvent(msgs, "arn:aws:sqs:local:000000000000:events"))
	if err != nil {
		return err
	}
	answer, err := function(ctx, raw)
	if err != nil {
		return err
	}
	resp, ok := answer.(events.SQSEventResponse)
	if !ok {
		return errors.New("the answer is not that of a batch")
	}
	for _, f := range resp.BatchItemFailures {
		failed[f.ItemIdentifier] = true
	}
	return nil
}

// giveBack makes messages visible that were received while the system stopped.
func (s *System) giveBack(q queue, msgs []hook.Received) {
	for _, m := range msgs {
		if err := q.Release(context.Background(), m.Receipt, 0); err != nil {
			s.o.Log.Warn("release message", slog.Any("err", err))
		}
	}
}

// every runs a scheduled function: at once, then each period; a run that takes
// longer delays the next one.
func (s *System) every(ctx context.Context, name string, period time.Duration, run func(context.Context) error) {
	s.work.Go(func() {
		t := time.NewTicker(period)
		defer t.Stop()
		for {
			rctx, cancel := context.WithTimeout(ctx, functionTimeout)
			err := run(rctx)
			cancel()
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				s.o.Log.Error(name, slog.Any("err", err))
			}
			select {
			case <-t.C:
			case <-ctx.Done():
				return
			}
		}
	})
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
