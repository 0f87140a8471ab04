package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"eventhooks/internal/local"
	"eventhooks/internal/retry"
)

func newLocal() *cobra.Command {
	var o local.Options
	var schedule string
	cmd := &cobra.Command{
		Use:   "local",
		Short: "Run everything on this machine, with nothing to install",
		Long: `Run the admin API, ingest, delivery and health probes in one process on this
machine. What is accepted is on disk before it is answered; with --data it
survives the process, also a killed one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if schedule != "" {
				s, err := retry.Parse(schedule)
				if err != nil {
					return fmt.Errorf("--retry-schedule: %w", err)
				}
				o.Schedule = s
			}
			for name, d := range map[string]time.Duration{"--probe-every": o.ProbeEvery, "--visibility": o.Visibility} {
				if d <= 0 {
					return fmt.Errorf("%s: %v is not a positive duration, like 10s", name, d)
				}
			}
			o.Version = version
			o.Events = cmd.OutOrStdout()
			o.Log = slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil))
			return runLocal(cmd.Context(), cmd.OutOrStdout(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Addr, "addr", "127.0.0.1:8080", "loopback `host:port` of the admin API and of ingest; port 0 takes a free one")
	f.StringVar(&o.Token, "token", "", "access `token` with every scope (default: a random one, printed)")
	f.StringVar(&o.Dir, "data", "", "`directory` that keeps everything (default: a temporary one, removed at the end)")
	f.StringVar(&schedule, "retry-schedule", "", "`waits` before each retry, like 200ms,1s,5s (default \""+retry.Default().String()+"\")")
	f.DurationVar(&o.ProbeEvery, "probe-every", time.Minute, "how often healthprobe is woken")
	f.DurationVar(&o.Visibility, "visibility", 30*time.Second, "how long a message that was not handled waits before it comes again")
	f.BoolVar(&o.DenyPrivate, "deny-private", false, "refuse to call loopback addresses, as in AWS")
	f.BoolVar(&o.AWS, "aws", false, "use DynamoDB and SQS (or servers that speak like them: AWS_ENDPOINT_URL_DYNAMODB, AWS_ENDPOINT_URL_SQS) instead of the embedded store")
	return cmd
}

func runLocal(ctx context.Context, out io.Writer, o local.Options) error {
	temporary := o.Dir == "" && !o.AWS
	s, err := local.Start(ctx, o)
	if err != nil {
		return err
	}
	banner(out, s, temporary, o.AWS)
	<-ctx.Done()
	fmt.Fprintln(out, "stopping")
	return s.Close()
}

// banner prints what a newcomer needs: where, with which token, and commands
// to paste.
func banner(out io.Writer, s *local.System, temporary, aws bool) {
	data := s.Dir()
	switch {
	case temporary:
		data += " (removed at the end; keep it with --data)"
	case aws:
		data = "DynamoDB and SQS"
	}
	fmt.Fprintln(out, "Event Hooks is ready.")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "  base URL\t%s\n  token\t%s\n  data\t%s\n", s.URL(), s.Token(), data)
	w.Flush()
	fmt.Fprintf(out, `
Watch what arrives, in a second terminal:

  go run ./cmd/eventhooks listen --secret topsecret

Make a hook, and post an event, in a third:

  export EVENTHOOKS_URL=%[1]s EVENTHOOKS_TOKEN=%[2]s

  curl -sS $EVENTHOOKS_URL/event-hooks -H "Authorization: Bearer $EVENTHOOKS_TOKEN" -H 'Content-Type: application/json' \
    -d '{"source":"crud","event":"consumers","handler":"webhook","config":{"url":"http://127.0.0.1:9000/","secret":"topsecret"}}'

  curl -sS $EVENTHOOKS_URL/events -H "Authorization: Bearer $EVENTHOOKS_TOKEN" -H 'Content-Type: application/json' \
    -d '{"source":"crud","event":"consumers","data":{"operation":"create","schema":"consumers","entity":{"username":"jane"}}}'

Stop with Ctrl-C.
`, s.URL(), s.Token())
}
