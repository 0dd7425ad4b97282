#!/bin/sh
echo "grüße aus dem skript, und so weiter, damit es mehr als eine zeile in base64 wird"
