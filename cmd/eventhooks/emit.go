package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// emitOptions are the flags of emit.
type emitOptions struct {
	url, token     string
	source, event  string
	data, file     string
	workspace, key string
}

func newEmit() *cobra.Command {
	var o emitOptions
	cmd := &cobra.Command{
		Use:   "emit",
		Short: "Post an event, from flags or from a file",
		Long: `Post an event to ingest and print the id it was given.

From flags, --data being the event's data:

  eventhooks emit --source crud --event consumers --data '{"operation":"create"}'

From a file (or - for standard input) that holds one event or an array of them,
each {"source":…,"event":…,"data":{…}}:

  eventhooks emit --file events.json

A file together with --source and --event holds the data alone: one object, or an
array of them, such as the entries of a gateway's http-log plugin.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return emit(cmd.Context(), o, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.url, "url", envOr("EVENTHOOKS_URL", "http://127.0.0.1:8080"), "base `URL` (EVENTHOOKS_URL)")
	f.StringVar(&o.token, "token", "", "access `token` with scope ingest (EVENTHOOKS_TOKEN)")
	f.StringVar(&o.source, "source", "", "the event's source, like crud")
	f.StringVar(&o.event, "event", "", "the event's name, like consumers:create")
	f.StringVar(&o.data, "data", "", "the event's data, a `JSON` object")
	f.StringVar(&o.file, "file", "", "read from a `file`, or - for standard input")
	f.StringVar(&o.workspace, "workspace", "", "the event's workspace")
	f.StringVar(&o.key, "idempotency-key", "", "`key` under which a repeated post gives the same ids")
	return cmd
}

func envOr(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

// body returns the path and the body to post.
func (o emitOptions) body(stdin io.Reader) (path string, body []byte, err error) {
	named := o.source != "" && o.event != ""
	switch {
	case o.file != "" && o.data != "":
		return "", nil, errors.New("--file and --data exclude each other")
	case o.file != "" && o.workspace != "":
		return "", nil, errors.New("--workspace goes with --data; in a file each event has its own")
	case o.file != "" && (o.source != "") != (o.event != ""):
		return "", nil, errors.New("--source and --event go together")
	case o.file != "":
		if o.file == "-" {
			body, err = io.ReadAll(stdin)
		} else {
			body, err = os.ReadFile(o.file)
		}
		if err != nil {
			return "", nil, fmt.Errorf("read the events: %w", err)
		}
		if named {
			return "/events/" + url.PathEscape(o.source) + "/" + url.PathEscape(o.event), body, nil
		}
		return "/events", body, nil
	case !named:
		return "", nil, errors.New("--source and --event are needed, or --file")
	}
	if o.data == "" {
		o.data = "{}"
	}
	if !json.Valid([]byte(o.data)) {
		return "", nil, fmt.Errorf("--data: %s is not JSON; an object like '{\"a\":1}' is needed", o.data)
	}
	ev := map[string]any{"source": o.source, "event": o.event, "data": json.RawMessage(o.data)}
	if o.workspace != "" {
		ev["workspace"] = o.workspace
	}
	body, err = json.Marshal(ev)
	return "/events", body, err
}

func emit(ctx context.Context, o emitOptions, stdin io.Reader, out io.Writer) error {
	if o.token == "" {
		o.token = os.Getenv("EVENTHOOKS_TOKEN")
	}
	if o.token == "" {
		return errors.New("no token: give --token or set EVENTHOOKS_TOKEN; `eventhooks local` prints one")
	}
	path, body, err := o.body(stdin)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(o.url, "/")+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("--url: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+o.token)
	req.Header.Set("Content-Type", "application/json")
	if o.key != "" {
		req.Header.Set("Idempotency-Key", o.key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("post: %w (is `eventhooks local` running?)", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("not accepted (%s): %s", resp.Status, message(answer))
	}
	var accepted struct {
		Events []struct {
			ID string `json:"id"`
		} `json:"events"`
	}
	if err := json.Unmarshal(answer, &accepted); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	for _, ev := range accepted.Events {
		fmt.Fprintln(out, ev.ID)
	}
	return nil
}

// message returns what an error's body says, or the body when it is no error of
// ours.
func message(body []byte) string {
	var e struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &e) == nil && e.Message != "" {
		return e.Message
	}
	return string(bytes.TrimSpace(body))
}
