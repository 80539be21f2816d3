/** Parts that views share. */

export { announce, announced } from "./parts/announce.js";
export { Button, Copy, Dialog, Tabs } from "./parts/controls.js";
export { Segmented, Select, SliderField, TimeField } from "./parts/fields.js";
export {
  Badge,
  Becomes,
  Card,
  Loading,
  Missing,
  Notice,
  PageHead,
  ProblemNotice,
  Progress,
  Stats,
  Status,
} from "./parts/shown.js";
export { DataTable, Scrolling, Table } from "./parts/tables.js";
