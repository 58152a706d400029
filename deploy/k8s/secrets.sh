#!/usr/bin/env bash
# Prints the Secrets that no operator makes, with new random passwords: secrets.sh single-node|production.
# It changes nothing. Send what it prints to the cluster once, and keep a copy where you keep passwords:
#   deploy/k8s/secrets.sh single-node | kubectl apply -f -
set -euo pipefail
KUBECTL=${KUBECTL:-kubectl}

random() { head -c 32 /dev/urandom | base64 | tr -d '\n=' | tr '+/' '-_'; }

secret() {  # NAME KEY=VALUE...
    local name=$1 pair literals=()
    shift
    for pair in "$@"; do literals+=("--from-literal=$pair"); done
    echo ---
    "$KUBECTL" create secret generic "$name" --namespace lares --dry-run=client -o yaml "${literals[@]}"
}

overlay=${1:-}
case $overlay in
single-node)
    bus=$(random)
    login="org.apache.kafka.common.security.plain.PlainLoginModule required username=\"lares\" password=\"$bus\""
    secret lares-bus password="$bus" jaas="$login user_lares=\"$bus\";"
    secret lares-database password="$(random)"
    ;;
production)  # Strimzi and CloudNativePG make the passwords of Kafka and PostgreSQL.
    : "${BLOBS_KEY:?the access key of the bucket}" "${BLOBS_SECRET:?its secret}"
    secret lares-blobs key="$BLOBS_KEY" secret="$BLOBS_SECRET"
    secret lares-reasoner token="$(random)"
    ;;
*)
    echo "usage: $0 single-node|production" >&2
    exit 2
    ;;
esac
