// Command admin is the Lambda function of the admin API.
package main

import (
	"errors"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"eventhooks/internal/action"
	"eventhooks/internal/admin"
	"eventhooks/internal/auth"
	"eventhooks/internal/dynamostore"
	"eventhooks/internal/egress"
	"eventhooks/internal/env"
	"eventhooks/internal/keyring"
	"eventhooks/internal/lambdaevent"
	"eventhooks/internal/lua"
	"eventhooks/internal/sqsqueue"
)

var version, loopback = "dev", "" // set by the linker only: loopback by the end-to-end tests

func main() {
	lua.RunIfChild()
	slog.SetDefault(lambdacontext.NewLogger())
	if err := start(env.New(os.LookupEnv)); err != nil {
		slog.Error("cold start failed", "err", err)
		os.Exit(1)
	}
}

func start(e *env.Settings) error {
	store, retry := dynamostore.New(dynamodb.NewFromConfig(e.AWS("DYNAMODB")), e.String("CONFIG_TABLE"), e.String("STATE_TABLE")), sqsqueue.New(sqs.NewFromConfig(e.AWS("SQS")), e.String("RETRY_QUEUE_URL"))
	store = store.Sealed(keyring.New(keyring.Options{Records: store, KeyARN: e.KMSKey("KMS_KEY_ARN"), AWS: e.AWS("KMS"), Suffix: e.String("URL_SUFFIX"), Makes: true}))
	client, errClient := egress.New(egress.Options{AllowPrivate: e.Prefixes("ALLOW_PRIVATE_CIDRS"), AllowLoopback: loopback != ""})
	tokens, act := auth.New(auth.Options{Store: store}), action.New(action.Options{Client: client, Version: version, Lua: lua.NewPool(lua.Options{MemoryMB: lambdacontext.MemoryLimitInMB})})
	svc, err := admin.New(admin.Options{Store: store, RetryQueue: retry, Action: act, Auth: tokens, Check: action.Check, Names: action.Names, Version: version})
	if err := errors.Join(e.Err(), errClient, err); err != nil {
		return err
	}
	lambdaevent.Warm(store.Warm)
	lambda.StartHandlerFunc(lambdaevent.After(lambdaevent.Admin(svc, svc.MintToken, store.Reseal), tokens.Wait))
	return nil
}
