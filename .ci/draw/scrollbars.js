// Nobody scrolls in a picture.
import React from 'react';

export default class Scrollbars extends React.Component {
  render() {
    const { autoHeightMax, children } = this.props;
    return <div style={{ overflow: 'hidden', height: '100%', maxHeight: autoHeightMax }}>{children}</div>;
  }
}
