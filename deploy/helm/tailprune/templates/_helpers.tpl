{{- define "tailprune.name" -}}
{{- .Release.Name | trunc 48 | trimSuffix "-" -}}
{{- end }}

{{- define "tailprune.labels" -}}
app.kubernetes.io/name: tailprune
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Of one component: (list . "worker") */}}
{{- define "tailprune.selector" -}}
app.kubernetes.io/name: tailprune
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* (list . .Values.image.worker) */}}
{{- define "tailprune.image" -}}
{{- $image := index . 1 -}}
{{- with (index . 0).Values.image.registry }}{{ . }}/{{ end -}}
{{- $image.name -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default (index . 0).Chart.AppVersion }}{{ end -}}
{{- end }}

{{- define "tailprune.redisSecret" -}}
{{- .Values.redis.existingSecret | default (printf "%s-redis" (include "tailprune.name" .)) -}}
{{- end }}

{{/* Restricted, as the pod security standard has it. */}}
{{- define "tailprune.podSecurity" -}}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .uid }}
  runAsGroup: {{ .gid }}
  fsGroup: {{ .gid }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "tailprune.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Where Redis is; the same settings for service and workers. */}}
{{- define "tailprune.env" -}}
{{- if .Values.redis.enabled }}
- name: REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "tailprune.redisSecret" . }}, key: redis-password}}
- name: REDIS_URL
  value: redis://:$(REDIS_PASSWORD)@{{ include "tailprune.name" . }}-redis:6379/0
{{- else if .Values.redis.existingSecret }}
- name: REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.redis.existingSecret }}, key: redis-url}}
{{- else }}
- name: REDIS_URL
  value: {{ required "redis.url or redis.existingSecret names your Redis where redis.enabled is false" .Values.redis.url | quote }}
{{- end }}
{{- end }}

{{- define "tailprune.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: data, mountPath: /data}
- {name: models, mountPath: /models, readOnly: true}
{{- end }}

{{- define "tailprune.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 1Gi}
- name: data
{{- if .Values.data.enabled }}
  persistentVolumeClaim: {claimName: {{ .Values.data.existingClaim | default (printf "%s-data" (include "tailprune.name" .)) }}}
{{- else }}
  emptyDir: {sizeLimit: {{ .Values.data.size }}}
{{- end }}
- name: models
  {{- if not .Values.models.volume }}
  {{- fail "models.volume names the volume of models.toml and the checkpoints, such as {persistentVolumeClaim: {claimName: models}}" }}
  {{- end }}
  {{- toYaml .Values.models.volume | nindent 2 }}
{{- end }}

{{- define "tailprune.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
