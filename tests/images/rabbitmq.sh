#!/bin/sh
# The server, and its tools by their own names, in the stand-in for RabbitMQ's image: files where the official
# image has them.
export HOME=/var/lib/rabbitmq
export RABBITMQ_ENABLED_PLUGINS_FILE=/etc/rabbitmq/enabled_plugins
export RABBITMQ_CONFIG_FILES=/etc/rabbitmq/conf.d
export RABBITMQ_MNESIA_BASE=/var/lib/rabbitmq/data
export RABBITMQ_CONF_ENV_FILE=/dev/null
export RABBITMQ_LOGS=-
export RABBITMQ_LOG_BASE=/tmp
export PATH=/opt/rabbitmq/usr/lib/erlang/bin:"$PATH"
exec /opt/rabbitmq/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/"${0##*/}" "$@"
